"""The answer: a message of content blocks, and the events that tell of it while it is made.

A `MessageWriter` owns what one message has said so far; the streamed message and the whole one are made by the same
steps. Neighbouring text is one block; so is neighbouring thinking.
"""

from typing import Any

from pagemill.api.anthropic.requests import MessagesRequest
from pagemill.api.errors import anthropic_error
from pagemill.api.single_answer import Answering, ServerEvent
from pagemill.errors import PagemillError
from pagemill.generation import Delta, FinishReason, Usage
from pagemill.partial_import import import_without_package
from pagemill.prompts.message_events import Content, Event, Reasoning, ToolCallArguments, ToolCallStart

SIGNATURE = "pagemill"  # of all thinking: clients send back only what is signed, and there is nothing to check


class Block:
    """One block, from its beginning on."""

    __slots__ = ("_call", "_pieces", "kind")

    def __init__(self, kind: str, call: ToolCallStart | None = None) -> None:
        self.kind = kind
        self._call = call
        self._pieces: list[str] = []

    def begun(self) -> dict[str, Any]:
        """As it is shown when it begins: empty."""
        return self._shown("", {}, "")

    def whole(self) -> dict[str, Any]:
        """As it is shown when it has ended."""
        text = "".join(self._pieces)
        return self._shown(text, _as_object(text) if self._call else {}, SIGNATURE)

    def _shown(self, text: str, arguments: dict[str, Any], signature: str) -> dict[str, Any]:
        if self._call is not None:
            return {"type": self.kind, "id": self._call.id, "name": self._call.name, "input": arguments}
        if self.kind == "thinking":
            return {"type": self.kind, "thinking": text, "signature": signature}
        return {"type": self.kind, "text": text}

    def add(self, text: str) -> dict[str, Any]:
        """Take in more of it; returns the delta that says so."""
        self._pieces.append(text)
        match self.kind:
            case "tool_use":
                return {"type": "input_json_delta", "partial_json": text}
            case "thinking":
                return {"type": "thinking_delta", "thinking": text}
        return {"type": "text_delta", "text": text}


class MessageWriter:
    """An `AnswerWriter`."""

    def __init__(self, message_id: str, model: str, body: MessagesRequest, request_id: str) -> None:
        self._id = message_id
        self._model = model
        self._max_tokens = body.max_tokens
        self._stop_sequences = body.stop_sequences or ()
        self._request_id = request_id
        self._blocks: list[Block] = []
        self._is_open = False  # whether the last block is
        self._usage: dict[str, Any] | None = None
        self._stop: dict[str, Any] = {"stop_reason": None, "stop_sequence": None}

    def add(self, answering: Answering, delta: Delta) -> list[ServerEvent]:
        events: list[ServerEvent] = []
        begins = self._usage is None
        found = answering.reader.read(delta)
        self._usage = _usage(delta.usage, answering.reader.num_reasoning_tokens)
        if begins:
            events += [{"type": "message_start", "message": self._shown([])}, {"type": "ping"}]
        for event in found:
            events += self._add_event(event)
        if delta.finish_reason is not None:
            self._stop = self._stopped(delta, has_calls=answering.reader.has_calls)
            counts = {name: count for name, count in self._usage.items() if name != "service_tier"}
            events += self._end_block()
            events += [{"type": "message_delta", "delta": self._stop, "usage": counts}, {"type": "message_stop"}]
        return events

    def response(self) -> dict[str, Any]:
        return self._shown([block.whole() for block in self._blocks])

    def failure(self, error: PagemillError) -> list[ServerEvent]:
        return [anthropic_error(error, self._request_id)]

    def _shown(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            **self._stop,
            "usage": self._usage,
        }

    def _add_event(self, event: Event) -> list[ServerEvent]:
        match event:
            case ToolCallStart():
                return self._begin_block(Block("tool_use", event))
            case Content(text):
                kind = "text"
            case Reasoning(text):
                kind = "thinking"
            case ToolCallArguments(_index, text):
                kind = "tool_use"
        opening = [] if self._is_open and self._blocks[-1].kind == kind else self._begin_block(Block(kind))
        return [*opening, self._block_event("content_block_delta", delta=self._blocks[-1].add(text))]

    def _begin_block(self, block: Block) -> list[ServerEvent]:
        ending = self._end_block()
        self._blocks.append(block)
        self._is_open = True
        return [*ending, self._block_event("content_block_start", content_block=block.begun())]

    def _end_block(self) -> list[ServerEvent]:
        if not self._is_open:
            return []
        self._is_open = False
        end = self._block_event("content_block_stop")
        if self._blocks[-1].kind != "thinking":
            return [end]
        signature = {"type": "signature_delta", "signature": SIGNATURE}
        return [self._block_event("content_block_delta", delta=signature), end]

    def _block_event(self, kind: str, **fields: Any) -> ServerEvent:
        return {"type": kind, "index": len(self._blocks) - 1, **fields}

    def _stopped(self, delta: Delta, *, has_calls: bool) -> dict[str, Any]:
        reason, sequence = "end_turn", None
        if delta.finish_reason is FinishReason.LENGTH:
            used_up = delta.usage.completion_tokens < self._max_tokens
            reason = "model_context_window_exceeded" if used_up else "max_tokens"
        elif isinstance(delta.stop_reason, str) and delta.stop_reason in self._stop_sequences:  # not one of the model's
            reason, sequence = "stop_sequence", delta.stop_reason
        elif has_calls:
            reason = "tool_use"
        return {"stop_reason": reason, "stop_sequence": sequence}


def _usage(usage: Usage, num_reasoning_tokens: int) -> dict[str, Any]:
    """The tokens of the prompt are those computed and those found computed. Everything is cached, without being asked
    to, so none are counted as written to the cache for a price.
    """
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": num_reasoning_tokens},
        "service_tier": "standard",
    }


def _as_object(text: str) -> dict[str, Any]:
    """The arguments of a call as far as they go, as Anthropic's clients read them while they come: an answer may have
    been cut off. Nothing, if the model wrote no JSON object.
    """
    try:
        value = import_without_package("pydantic_core._pydantic_core").from_json(text, allow_partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
