"""One choice of an unstreamed response, put together from its deltas. A `Choice` owns its parts."""

from collections.abc import Sequence

from pagemill.generation import Delta, FinishReason, TokenLogprobs
from pagemill.prompts.message_events import Content, Event, Reasoning, ToolCallArguments, ToolCallStart


class Choice:
    """Filled by `add` until `finish_reason` is set."""

    __slots__ = (
        "_reasoning",
        "_texts",
        "calls",
        "finish_reason",
        "logprobs",
        "prompt_logprobs",
        "stop_reason",
        "token_ids",
    )

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self.calls: list[list[str]] = []  # id, name, and the pieces of the arguments
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprobs] = []
        self.prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None
        self.finish_reason: FinishReason | None = None
        self.stop_reason: str | int | None = None

    def add(self, delta: Delta, events: Sequence[Event]) -> None:
        """Take in what a step added, and what its text means."""
        for event in events:
            self._add_event(event)
        self.token_ids += delta.token_ids
        self.logprobs += delta.logprobs
        if delta.prompt_logprobs is not None:
            self.prompt_logprobs = delta.prompt_logprobs
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason
            self.stop_reason = delta.stop_reason

    def _add_event(self, event: Event) -> None:
        match event:
            case Content(text):
                self._texts.append(text)
            case Reasoning(text):
                self._reasoning.append(text)
            case ToolCallStart(_index, call_id, name):
                self.calls.append([call_id, name])
            case ToolCallArguments(_index, text):
                self.calls[-1].append(text)

    @property
    def text(self) -> str:
        """All content so far."""
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        """All reasoning so far."""
        return "".join(self._reasoning)
