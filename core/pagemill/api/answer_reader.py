"""One choice's deltas read as what they mean: reasoning, content and tool calls. For all dialects.

An `AnswerReader` owns the parser of one choice and what has been counted of it. Nothing here knows a dialect.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pagemill.errors import BackendError, UnavailableError
from pagemill.generation import Delta, FinishReason
from pagemill.prompts.message_events import Content, Event, Reasoning, ToolCallArguments, ToolCallStart

if TYPE_CHECKING:
    from pagemill.prompts.message_parser import MessageParser


class AnswerReader:
    """Without a parser, all text is content. Of more calls than `max_calls` only the first ones are shown. Where calls
    are demanded, nothing else is content: what looks like it is the beginning of a call that was cut off.
    """

    __slots__ = ("_hidden", "_max_calls", "_parser", "has_calls", "num_reasoning_tokens")

    def __init__(
        self,
        parser: "MessageParser | None" = None,
        *,
        max_calls: int | None = None,
        demands_calls: bool = False,
        shows_reasoning: bool = True,
    ) -> None:
        self._parser = parser
        self._max_calls = max_calls
        self._hidden = ((Content,) if demands_calls else ()) + (() if shows_reasoning else (Reasoning,))
        self.num_reasoning_tokens = 0
        self.has_calls = False

    def read(self, delta: Delta) -> list[Event]:
        """What the choice's next delta brings."""
        parser = self._parser
        if parser is None:
            return [Content(delta.text)] if delta.text else []
        reasoned = parser.reasons
        events = parser.feed(delta.text) if delta.finish_reason is None else parser.finish(delta.text)
        if reasoned or parser.reasons or any(isinstance(event, Reasoning) for event in events):
            self.num_reasoning_tokens += len(delta.token_ids)
        return [event for event in events if self._is_shown(event)]

    def _is_shown(self, event: Event) -> bool:
        if isinstance(event, ToolCallStart | ToolCallArguments):
            self.has_calls = True
            return self._max_calls is None or event.call_index < self._max_calls
        return not isinstance(event, self._hidden)


def check_finish(delta: Delta) -> None:
    """Raises BackendError or UnavailableError if the sequence ended without an answer."""
    if delta.finish_reason is FinishReason.ERROR:
        raise BackendError(delta.error or "the backend failed")
    if delta.finish_reason is FinishReason.ABORT:
        raise UnavailableError("the request was cut off: the server is shutting down, or unloading the model")


class WholeCall(NamedTuple):
    """A tool call that is complete."""

    call_index: int
    id: str
    name: str
    arguments: str

    def arguments_object(self) -> Mapping[str, Any] | None:
        """The arguments; None if the model wrote no JSON object, or numbers that JSON has not."""
        try:
            value = json.loads(self.arguments, strict=False)
            json.dumps(value, allow_nan=False)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


class WholeCalls:
    """Puts tool calls together, for those who can't show them in pieces."""

    __slots__ = ("_arguments", "_start")

    def __init__(self) -> None:
        self._start: ToolCallStart | None = None
        self._arguments: list[str] = []

    def add(self, event: ToolCallStart | ToolCallArguments) -> WholeCall | None:
        """Take the next piece; returns the call before, if a new one begins."""
        if isinstance(event, ToolCallArguments):
            self._arguments.append(event.text)
            return None
        before = self.finish()
        self._start = event
        return before

    def finish(self) -> WholeCall | None:
        """The last call, if there was one."""
        if self._start is None:
            return None
        call = WholeCall(self._start.call_index, self._start.id, self._start.name, "".join(self._arguments))
        self._start, self._arguments = None, []
        return call
