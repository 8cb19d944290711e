"""Server-sent events: one engine delta becomes the bytes of none, one or a few chunks.

A `ChunkWriter` owns what one stream has said so far. Nearly all deltas of a stream are just text: for these the chunk's
constant JSON is rendered once per choice, and only the text is encoded. What a delta's text means (`Event`s) is read
before it comes here.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pagemill.api.errors import openai_error
from pagemill.api.openai.envelope import Envelope
from pagemill.api.openai.usage import UsageTally
from pagemill.api.server_events import sse
from pagemill.errors import PagemillError
from pagemill.generation import Delta, FinishReason, TokenLogprobs
from pagemill.prompts.message_events import Content, Event

DONE = b"data: [DONE]\n\n"


def error_event(error: PagemillError) -> bytes:
    """The last event of a stream that fails: OpenAI's clients raise APIError on it. No [DONE] follows."""
    return sse(openai_error(error))


class ChunkStyle(Protocol):
    """How chunks of one dialect object look."""

    chunk_kind: str

    def opening(self, number: int, delta: Delta) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """What choice `number` begins with: pairs of choice fields and further fields of the chunk."""
        ...

    def fields(self, event: Event) -> dict[str, Any]:
        """The choice fields that carry the event."""
        ...

    def finish(self) -> dict[str, Any]:
        """The choice fields of the chunk that carries the finish reason."""
        ...

    def finish_reason(self, number: int, reason: FinishReason) -> str:
        """The choice's finish reason, as clients know it."""
        ...

    def logprobs(self, number: int, entries: Sequence[TokenLogprobs]) -> dict[str, Any] | None:
        """The choice's `logprobs` for these tokens; None if none were asked for."""
        ...


class ChunkWriter:
    """Writes the chunks of one response. `plain` says that no chunk carries more than text: no logprobs, no ids."""

    def __init__(
        self,
        envelope: Envelope,
        style: ChunkStyle,
        tally: UsageTally,
        *,
        num_choices: int,
        plain: bool,
        usage: bool,
        continuous_usage: bool,
        token_ids: bool,
    ) -> None:
        self._envelope = envelope
        self._style = style
        self._tally = tally
        self._plain = plain and not continuous_usage and not token_ids
        self._usage = usage
        self._continuous_usage = continuous_usage
        self._token_ids = token_ids
        self._is_open = [False] * num_choices
        self._encode = json.JSONEncoder(ensure_ascii=False).encode
        self._frames = [self._frame(number) for number in range(num_choices)]

    def _frame(self, number: int) -> tuple[bytes, bytes]:
        """What stands before and after content in a chunk of that choice."""
        mark = "\N{NULL}text"  # nothing that a chunk has after the text looks like this
        chunk = self._chunk(number, self._style.fields(Content(mark)))
        before, _mark, after = chunk.rpartition(self._encode(mark).encode())
        return before, after

    def write(self, number: int, delta: Delta, events: Sequence[Event], *, num_reasoning_tokens: int = 0) -> bytes:
        """The chunks for a delta of choice `number`, which brings the events; b"" if it has nothing to show."""
        self._tally.update(number, delta.usage, num_reasoning_tokens)
        if self._plain and delta.finish_reason is None and self._is_open[number]:
            if not events:
                return b""
            if len(events) == 1 and isinstance(event := events[0], Content):
                before, after = self._frames[number]
                return before + self._encode(event.text).encode() + after
        return self._write_in_full(number, delta, events)

    def end(self) -> bytes:
        """What ends the stream."""
        if not self._usage:
            return DONE
        return sse(self._envelope.wrap(self._style.chunk_kind, [], usage=self._tally.total())) + DONE

    def _write_in_full(self, number: int, delta: Delta, events: Sequence[Event]) -> bytes:
        chunks = b""
        if not self._is_open[number]:
            self._is_open[number] = True
            for fields, rest in self._style.opening(number, delta):
                chunks += self._chunk(number, fields, rest=rest)
        if not events and (delta.logprobs or (self._token_ids and delta.token_ids)):
            events = [Content("")]
        for position, event in enumerate(events):
            is_first = position == 0  # the tokens of the delta are told once
            logprobs = self._style.logprobs(number, delta.logprobs if is_first else ())
            fields = {**self._style.fields(event), "logprobs": logprobs}
            if self._token_ids:
                fields["token_ids"] = delta.token_ids if is_first else ()
            chunks += self._chunk(number, fields)
        if delta.finish_reason is not None:
            reason = self._style.finish_reason(number, delta.finish_reason)
            fields = {**self._style.finish(), "finish_reason": reason, "stop_reason": delta.stop_reason}
            chunks += self._chunk(number, fields)
        return chunks

    def _chunk(self, number: int, fields: dict[str, Any], *, rest: Mapping[str, Any] | None = None) -> bytes:
        choice = {"index": number, "logprobs": None, "finish_reason": None, **fields}
        counts: dict[str, Any] = {}
        if self._continuous_usage:
            counts["usage"] = self._tally.total()
        elif self._usage:
            counts["usage"] = None
        return sse(self._envelope.wrap(self._style.chunk_kind, [choice], **(rest or {}), **counts))
