"""The response: items of output, and the events that tell of it while it is made.

A `ResponseWriter` owns what one response has said so far; the streamed response and the whole one are made by the same
steps.
"""

import time
from collections.abc import Mapping
from typing import Any

from pagemill.api.openai.logprobs import chat_logprobs
from pagemill.api.openai.responses.output_items import CallItem, OutputItem, ReasoningItem, TextItem
from pagemill.api.openai.responses.request import ResponsesRequest
from pagemill.api.openai.responses.tools import shown_tools
from pagemill.api.single_answer import Answering, ServerEvent
from pagemill.errors import PagemillError
from pagemill.generation import Delta, FinishReason, Usage
from pagemill.prompts.message_events import Content, Event, Reasoning, ToolCallArguments, ToolCallStart


class ResponseWriter:
    """An `AnswerWriter`. `number` is what the ids of the response and its items end with."""

    def __init__(self, number: str, model: str, body: ResponsesRequest) -> None:
        self._number = number
        self._body = body
        self._head = {"id": f"resp_{number}", "object": "response", "created_at": int(time.time()), "model": model}
        self._outcome: dict[str, Any] = {"status": "in_progress", "error": None, "incomplete_details": None}
        self._items: list[OutputItem] = []
        self._statuses: list[str] = []  # of the items, as clients know them
        self._usage: dict[str, Any] | None = None
        self._logprobs: list[dict[str, Any]] = []  # of text that is still to come
        self._num_events = 0

    def add(self, answering: Answering, delta: Delta) -> list[ServerEvent]:
        events: list[ServerEvent] = []
        if self._num_events == 0:
            events += [self._state("response.created"), self._state("response.in_progress")]
        num_reasoning_tokens = answering.reader.num_reasoning_tokens
        found = answering.reader.read(delta)
        if delta.logprobs and answering.reader.num_reasoning_tokens == num_reasoning_tokens:
            self._logprobs += chat_logprobs(answering.model.tokenizer, delta.logprobs)["content"]
        for event in found:
            events += self._add_event(event)
        if delta.finish_reason is not None:
            self._usage = _usage(delta.usage, answering.reader.num_reasoning_tokens)
            events += self._finish(delta.finish_reason)
        return self._numbered(events)

    def response(self) -> dict[str, Any]:
        body = self._body
        return {
            **self._head,
            **self._outcome,
            "output": [item.shown(status) for item, status in zip(self._items, self._statuses, strict=True)],
            "usage": self._usage,
            **_repeated(body),
        }

    def failure(self, error: PagemillError) -> list[ServerEvent]:
        if self._statuses and self._statuses[-1] == "in_progress":
            self._statuses[-1] = "incomplete"
        self._outcome |= {"status": "failed", "error": {"code": "server_error", "message": error.message}}
        told = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        return self._numbered([told, self._state("response.failed")])

    def _state(self, kind: str) -> ServerEvent:
        return {"type": kind, "response": self.response()}

    def _numbered(self, events: list[ServerEvent]) -> list[ServerEvent]:
        first, self._num_events = self._num_events, self._num_events + len(events)
        return [{**event, "sequence_number": number} for number, event in enumerate(events, start=first)]

    def _add_event(self, event: Event) -> list[ServerEvent]:
        match event:
            case ToolCallStart(_index, call_id, name):
                self._logprobs.clear()  # they are of the call's marks
                return self._begin(CallItem(self._next_id(), call_id, name))
            case Content(text):
                return self._add_text(TextItem, text)
            case Reasoning(text):
                return self._add_text(ReasoningItem, text)
            case ToolCallArguments(_index, text):
                return self._add_text(CallItem, text)

    def _add_text(self, kind: type[OutputItem], text: str) -> list[ServerEvent]:
        events: list[ServerEvent] = []
        if not self._items or self._statuses[-1] != "in_progress" or not isinstance(self._items[-1], kind):
            events = self._begin(self._new_item(kind))
        logprobs, self._logprobs = self._logprobs, []
        return [*events, self._placed(self._items[-1].add(text, logprobs if kind is TextItem else []))]

    def _new_item(self, kind: type[OutputItem]) -> OutputItem:
        if kind is TextItem:
            return TextItem(self._next_id())
        assert kind is ReasoningItem, "a call's arguments come after its start"
        body = self._body
        return ReasoningItem(self._next_id(), sums_up=body.sums_up, encrypts=body.encrypts_reasoning)

    def _next_id(self) -> str:
        return f"{self._number}_{len(self._items)}"

    def _begin(self, item: OutputItem) -> list[ServerEvent]:
        ending = self._end("completed")
        self._items.append(item)
        self._statuses.append("in_progress")
        added = {"type": "response.output_item.added", "item": item.shown("in_progress")}
        return [*ending, *(self._placed(event) for event in (added, *item.begin()))]

    def _end(self, status: str) -> list[ServerEvent]:
        if not self._statuses or self._statuses[-1] != "in_progress":
            return []
        item, self._statuses[-1] = self._items[-1], status
        done = {"type": "response.output_item.done", "item": item.shown(status)}
        return [self._placed(event) for event in (*item.end(), done)]

    def _placed(self, event: ServerEvent) -> ServerEvent:
        return {**event, "output_index": len(self._items) - 1}

    def _finish(self, reason: FinishReason) -> list[ServerEvent]:
        status = "incomplete" if reason is FinishReason.LENGTH else "completed"
        events = self._end(status)
        self._outcome["status"] = status
        if status == "incomplete":
            self._outcome["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            self._outcome["completed_at"] = int(time.time())
        return [*events, self._state(f"response.{status}")]


def _usage(usage: Usage, num_reasoning_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": num_reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _repeated(body: ResponsesRequest) -> Mapping[str, Any]:
    """What a response says again of its request."""
    wanted = None if body.text is None else body.text.format
    fields = ("type", "name", "schema", "strict", "description")
    shown_format = {name: value for name in fields if (value := getattr(wanted, name, None)) is not None}
    reasoning = body.reasoning
    return {
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "top_logprobs": body.top_logprobs or 0,
        "tools": shown_tools(body.tools),
        "tool_choice": body.tool_choice or "auto",
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "text": {"format": shown_format or {"type": "text"}, "verbosity": "medium"},
        "reasoning": {
            "effort": None if reasoning is None else reasoning.effort,
            "summary": None if reasoning is None else reasoning.summary,
        },
        "truncation": body.truncation or "disabled",
        "metadata": body.metadata or {},
        "user": body.user,
        "safety_identifier": body.safety_identifier,
        "prompt_cache_key": body.prompt_cache_key,
        "service_tier": "default",
        "store": False,
        "background": False,
        "previous_response_id": None,
        "max_tool_calls": None,
    }
