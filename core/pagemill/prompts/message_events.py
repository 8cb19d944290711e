"""What a parser finds in a model's answer: reasoning, content and tool calls, in the order in which they come.

An `EventWriter` owns the events of one answer that nobody has taken yet. May not import anything of Pagemill.
"""

from collections.abc import Callable
from typing import NamedTuple


class Content(NamedTuple):
    """Text for the user."""

    text: str


class Reasoning(NamedTuple):
    """Text that the model thinks before it answers."""

    text: str


class ToolCallStart(NamedTuple):
    """A tool call begins. `call_index` counts the calls of an answer."""

    call_index: int
    id: str
    name: str


class ToolCallArguments(NamedTuple):
    """The next piece of a call's arguments, which together are a JSON object (if the model wrote one)."""

    call_index: int
    text: str


Event = Content | Reasoning | ToolCallStart | ToolCallArguments


class EventWriter:
    """Joins neighbouring pieces. Space around tool calls is layout, no content; so is space around reasoning."""

    __slots__ = (
        "_events",
        "_has_reasoned",
        "_has_tools",
        "_new_id",
        "_num_calls",
        "_space",
        "_thought_space",
        "reasons",
    )

    def __init__(self, *, has_tools: bool, new_id: Callable[[], str]) -> None:
        self._has_tools = has_tools
        self._new_id = new_id
        self._events: list[Event] = []
        self._space = ""  # content's last, which is none if a call follows
        self._thought_space = ""
        self._has_reasoned = False
        self._num_calls = 0
        self.reasons = False  # whether what comes next is reasoning

    def content(self, text: str) -> None:
        if self._has_tools:
            text = self._space + text
            kept = text.rstrip()
            self._space = text[len(kept) :]
            text = kept
        if not text:
            return
        if self._events and isinstance(last := self._events[-1], Content):
            self._events[-1] = Content(last.text + text)
        else:
            self._events.append(Content(text))

    def reasoning(self, text: str) -> None:
        text = self._thought_space + text
        kept = text.rstrip()
        self._thought_space = text[len(kept) :]
        if not kept:
            return
        self._has_reasoned = True
        if self._events and isinstance(last := self._events[-1], Reasoning):
            self._events[-1] = Reasoning(last.text + kept)
        else:
            self._events.append(Reasoning(kept))

    def begin_reasoning(self) -> None:
        """Further reasoning begins on a new line."""
        self._thought_space = "\n" if self._has_reasoned else ""
        self.reasons = True

    def end_reasoning(self) -> None:
        self._thought_space = ""
        self.reasons = False

    def start_call(self, name: str, call_id: str | None = None) -> None:
        """A call of the tool `name`, with the model's own id if it gives one; `arguments` then adds to it."""
        self._space = ""
        self._events.append(ToolCallStart(self._num_calls, self._new_id() if call_id is None else call_id, name))
        self._num_calls += 1

    def arguments(self, text: str) -> None:
        """More of the arguments of the call that was started last."""
        index = self._num_calls - 1
        if self._events and isinstance(last := self._events[-1], ToolCallArguments) and last.call_index == index:
            self._events[-1] = ToolCallArguments(index, last.text + text)
        elif text:
            self._events.append(ToolCallArguments(index, text))

    def finish(self) -> None:
        """The answer is at its end."""
        if self._space and not self._num_calls:
            self._has_tools = False
            space, self._space = self._space, ""
            self.content(space)

    def take(self) -> list[Event]:
        """The events since the last time."""
        events, self._events = self._events, []
        return events
