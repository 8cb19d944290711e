"""What users of Ollama rely on in the dialects of others: 21 to 25 of the list. Each docstring is its line."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.api_server import RunningServer, Serve, running_server
from support.chat_scripts import THINKING_TEMPLATE, scripted
from support.model_server import Asked
from support.openai_requests import choices_of, chunks, events, joined, refusal

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}


@pytest.fixture(scope="module")
def told() -> Iterator[RunningServer]:
    """A model that thinks and says what it is told."""
    with running_server(scripted(THINKING_TEMPLATE)) as running:
        yield running


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, **fields}


def test_21_openai_errors_have_four_members(server: RunningServer) -> None:
    """21. OpenAI error `{"error":{message,type,param,code}}`."""
    for path, body, status, param in (
        ("/v1/chat/completions", {"messages": []}, 400, "messages"),
        ("/v1/completions", {"prompt": ""}, 400, "prompt"),
        ("/v1/completions", {"prompt": "x", "model": "nemo"}, 404, "model"),
        ("/v1/embeddings", {"input": 5}, 400, "input"),
        ("/v1/nothing", {}, 404, None),
    ):
        error = refusal(server.post(path, body), status)
        assert error["param"] == param
        assert all(error[name] for name in ("message", "type", "code"))


def test_22_a_stream_is_role_text_finish_usage_done(told: RunningServer) -> None:
    """22. SSE: role in the first chunk only, one `created`, a finish chunk, an optional usage chunk with `choices:[]`,
    `data: [DONE]`.
    """
    asked = chat("</think>Hello", stream=True)
    response = told.post("/v1/chat/completions", asked)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert events(response)[-1] == "[DONE]"
    parts = chunks(response)
    assert [choice["delta"].get("role") for choice in choices_of(parts)] == ["assistant"] + [None] * (len(parts) - 1)
    assert [choice["finish_reason"] for choice in choices_of(parts)] == [None] * (len(parts) - 1) + ["stop"]
    assert len({part["created"] for part in parts}) == 1
    assert joined(parts) == "Hello"
    *others, last = chunks(told.post("/v1/chat/completions", {**asked, "stream_options": {"include_usage": True}}))
    assert len(others) == len(parts)
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], len("</think>Hello") + 1)


@pytest.mark.parametrize("stream", [True, False])
def test_23_calls_finish_with_tool_calls_unless_cut(told: RunningServer, stream: bool) -> None:
    """23. finish_reason `tool_calls` overrides only `stop`; arguments are a **string** in the OpenAI dialect."""
    text = f"</think>{CALL}"
    for limit, reason in ((400, "tool_calls"), (len(text), "length")):
        body = chat(text, tools=[TOOL], max_tokens=limit, stream=stream)
        response = told.post("/v1/chat/completions", body)
        if stream:
            parts = choices_of(chunks(response))
            calls = [call for part in parts for call in part["delta"].get("tool_calls") or ()]
            arguments, reasons = (
                [call["function"].get("arguments") or "" for call in calls],
                [part["finish_reason"] for part in parts if part["finish_reason"]],
            )
        else:
            choice = response.json()["choices"][0]
            arguments, reasons = (
                [call["function"]["arguments"] for call in choice["message"]["tool_calls"]],
                [choice["finish_reason"]],
            )
        assert reasons == [reason]
        assert "".join(arguments) == '{"a": 1}'


@pytest.mark.parametrize("stream", [True, False])
def test_24_thinking_is_named_reasoning(told: RunningServer, stream: bool) -> None:
    """24. Thinking appears as `reasoning` in the OpenAI dialect."""
    response = told.post("/v1/chat/completions", chat("Hm.</think>Forty-two.", stream=stream))
    said = (
        [part["delta"] for part in choices_of(chunks(response))]
        if stream
        else [response.json()["choices"][0]["message"]]
    )
    assert "".join(part.get("reasoning") or "" for part in said) == "Hm."
    assert "".join(part.get("content") or "" for part in said) == "Forty-two."


def message(server: Asked, text: str, **fields: Any) -> Any:
    body = {"model": "fake", "max_tokens": 300, **chat(text), **fields}
    return server.post("/v1/messages", {name: value for name, value in body.items() if value is not None})


def message_events(server: Asked, text: str, **fields: Any) -> list[dict[str, Any]]:
    """The data of a stream's events; each names the event that it is."""
    found = []
    for item in message(server, text, stream=True, **fields).text.strip().split("\n\n"):
        name, data = item.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert found[-1]["type"] == name.removeprefix("event: ")
    return found


def test_25_messages_are_anthropics(told: RunningServer, serve: Serve) -> None:
    """25. Anthropic `/v1/messages`: max_tokens required (400); stop_reason end_turn/max_tokens/tool_use/stop_sequence;
    errors `{"type":"error","error":{...}}`; the full SSE event set.
    """
    refused = message(told, "hi", max_tokens=None)
    assert refused.status_code == 400
    assert (refused.json()["type"], refused.json()["error"]["type"]) == ("error", "invalid_request_error")
    assert "max_tokens" in refused.json()["error"]["message"]
    tools = [{"name": "f", "input_schema": PARAMETERS}]
    for fields, reason in (
        ({}, "end_turn"),
        ({"max_tokens": 3}, "max_tokens"),
        ({"tools": tools}, "tool_use"),
        ({"stop_sequences": ["see"]}, "stop_sequence"),
    ):
        text = f"Hm.</think>Let me see.{CALL if 'tools' in fields else ''}"
        assert message(told, text, **fields).json()["stop_reason"] == reason
        assert message_events(told, text, **fields)[-2]["delta"]["stop_reason"] == reason
    kinds = [
        event["delta"]["type"] if event["type"] == "content_block_delta" else event["type"]
        for event in message_events(told, f"Hm.</think>See.{CALL}", tools=tools)
    ]
    block = ("content_block_start", "content_block_stop")
    assert list(dict.fromkeys(kinds)) == [
        *("message_start", "ping", block[0], "thinking_delta", "signature_delta", block[1]),
        *("text_delta", "input_json_delta", "message_delta", "message_stop"),
    ]
    assert (kinds.count(block[0]), kinds.count(block[1])) == (3, 3)
