"""Output items while they are made, and the events that tell of each. An item owns its text so far.

The writer of the response adds what is the same for all events: `output_index` and `sequence_number`.
"""

from typing import Any, Protocol

from pagemill.api.openai.responses.input_items import encrypted
from pagemill.api.single_answer import ServerEvent


class OutputItem(Protocol):
    """One item."""

    def shown(self, status: str) -> dict[str, Any]:
        """As it is so far."""
        ...

    def begin(self) -> list[ServerEvent]:
        """The events after the one that adds it."""
        ...

    def add(self, text: str, logprobs: list[dict[str, Any]]) -> ServerEvent:
        """Take in more of it."""
        ...

    def end(self) -> list[ServerEvent]:
        """The events before the one that says that it is done."""
        ...


class TextItem:
    """A message of one text."""

    def __init__(self, number_id: str) -> None:
        self._id = f"msg_{number_id}"
        self._pieces: list[str] = []
        self._logprobs: list[dict[str, Any]] = []

    def shown(self, status: str) -> dict[str, Any]:
        content = [self._part()] if self._pieces else []
        return {"id": self._id, "type": "message", "status": status, "role": "assistant", "content": content}

    def _part(self) -> dict[str, Any]:
        text = "".join(self._pieces)
        return {"type": "output_text", "annotations": [], "logprobs": self._logprobs, "text": text}

    def begin(self) -> list[ServerEvent]:
        return [self._event("response.content_part.added", part={**self._part(), "logprobs": []})]

    def add(self, text: str, logprobs: list[dict[str, Any]]) -> ServerEvent:
        self._pieces.append(text)
        self._logprobs += logprobs
        return self._event("response.output_text.delta", delta=text, logprobs=logprobs)

    def end(self) -> list[ServerEvent]:
        part = self._part()
        text, logprobs = part["text"], self._logprobs
        return [
            self._event("response.output_text.done", text=text, logprobs=logprobs),
            self._event("response.content_part.done", part=part),
        ]

    def _event(self, kind: str, **fields: Any) -> ServerEvent:
        return {"type": kind, "item_id": self._id, "content_index": 0, **fields}


class ReasoningItem:
    """What the model thinks. Its summary, if one was asked for, is all of it; else it is the item's content."""

    def __init__(self, number_id: str, *, sums_up: bool, encrypts: bool) -> None:
        self._id = f"rs_{number_id}"
        self._pieces: list[str] = []
        self._encrypts = encrypts
        self._is_summary = sums_up
        self._text_type = "summary_text" if sums_up else "reasoning_text"
        self._text_event = "response.reasoning_summary_text" if sums_up else "response.reasoning_text"
        self._part_event = "response.reasoning_summary_part" if sums_up else "response.content_part"
        self._index = {"summary_index" if sums_up else "content_index": 0}

    def shown(self, status: str) -> dict[str, Any]:
        parts = [self._part()] if self._pieces else []
        item = {"id": self._id, "type": "reasoning", "status": status, "summary": parts if self._is_summary else []}
        if not self._is_summary:
            item["content"] = parts
        return {**item, "encrypted_content": encrypted("".join(self._pieces))} if self._encrypts else item

    def _part(self) -> dict[str, Any]:
        return {"type": self._text_type, "text": "".join(self._pieces)}

    def begin(self) -> list[ServerEvent]:
        return [self._event(f"{self._part_event}.added", part=self._part())]

    def add(self, text: str, logprobs: list[dict[str, Any]]) -> ServerEvent:
        self._pieces.append(text)
        return self._event(f"{self._text_event}.delta", delta=text)

    def end(self) -> list[ServerEvent]:
        part = self._part()
        return [
            self._event(f"{self._text_event}.done", text=part["text"]),
            self._event(f"{self._part_event}.done", part=part),
        ]

    def _event(self, kind: str, **fields: Any) -> ServerEvent:
        return {"type": kind, "item_id": self._id, **self._index, **fields}


class CallItem:
    """A call of a function."""

    def __init__(self, number_id: str, call_id: str, name: str) -> None:
        self._id = f"fc_{number_id}"
        self._call = {"call_id": call_id, "name": name}
        self._pieces: list[str] = []

    def shown(self, status: str) -> dict[str, Any]:
        arguments = "".join(self._pieces)
        return {"id": self._id, "type": "function_call", "status": status, **self._call, "arguments": arguments}

    def begin(self) -> list[ServerEvent]:
        return []

    def add(self, text: str, logprobs: list[dict[str, Any]]) -> ServerEvent:
        self._pieces.append(text)
        return {"type": "response.function_call_arguments.delta", "item_id": self._id, "delta": text}

    def end(self) -> list[ServerEvent]:
        done = {"arguments": "".join(self._pieces), "name": self._call["name"]}
        return [{"type": "response.function_call_arguments.done", "item_id": self._id, **done}]
