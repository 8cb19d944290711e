"""A model that names its calls itself (Kimi K2) finds these names again in the conversation, in every dialect."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.api_server import RunningServer, running_server
from support.chat_scripts import TOOL_TEMPLATE, scripted

CALL_ID = "functions.get_time:0"
CALL = f'<|tool_call_begin|>{CALL_ID}<|tool_call_argument_begin|>{{"city": "Rome"}}<|tool_call_end|>'
SAYS = f"<|tool_calls_section_begin|>{CALL}<|tool_calls_section_end|>"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"name": "get_time", "parameters": SCHEMA}
ASKED: dict[str, Any] = {"role": "user", "content": SAYS}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(scripted(TOOL_TEMPLATE.replace("<tool_call>", "<|tool_call_argument_begin|>"))) as running:
        yield running


def post(server: RunningServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = server.post(path, {"model": "fake", **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def prompt_of(server: RunningServer, messages: list[dict[str, Any]]) -> str:
    """What the chat template makes of the messages."""
    token_ids = post(server, "/tokenize", {"messages": messages})["tokens"]
    return str(post(server, "/detokenize", {"tokens": token_ids})["prompt"])


def test_chat_completions(server: RunningServer) -> None:
    body = {"messages": [ASKED], "tools": [{"type": "function", "function": FUNCTION}], "temperature": 0}
    message = post(server, "/v1/chat/completions", body)["choices"][0]["message"]
    assert [call["id"] for call in message["tool_calls"]] == [CALL_ID]
    streamed = server.post("/v1/chat/completions", {**body, "stream": True}).text.split("\n\n")
    chunks = [json.loads(event.removeprefix("data: ")) for event in streamed[:-2]]
    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert [call["id"] for call in calls if call.get("id")] == [CALL_ID]
    result = {"role": "tool", "tool_call_id": CALL_ID, "content": "noon"}
    assert post(server, "/v1/chat/completions", {**body, "messages": [ASKED, message, result]})["choices"]
    calls_as_objects = [{"id": CALL_ID, "function": {"name": "get_time", "arguments": {}}}]
    history: list[dict[str, Any]] = [
        ASKED,
        {"role": "assistant", "content": "", "tool_calls": calls_as_objects},
        result,
    ]
    assert f"CALL {CALL_ID} get_time" in prompt_of(server, history)


def test_responses(server: RunningServer) -> None:
    tools = [{"type": "function", **FUNCTION, "strict": False}]
    answer = post(server, "/v1/responses", {"input": SAYS, "tools": tools, "temperature": 0})
    assert [item["call_id"] for item in answer["output"] if item["type"] == "function_call"] == [CALL_ID]


def test_messages(server: RunningServer) -> None:
    body = {"max_tokens": 200, "tools": [{"name": "get_time", "input_schema": SCHEMA}], "temperature": 0}
    content = post(server, "/v1/messages", {**body, "messages": [ASKED]})["content"]
    assert [block["id"] for block in content if block["type"] == "tool_use"] == [CALL_ID]
    result = {"type": "tool_result", "tool_use_id": CALL_ID, "content": SAYS}
    turns = [ASKED, {"role": "assistant", "content": content}, {"role": "user", "content": [result]}]
    assert post(server, "/v1/messages", {**body, "messages": turns})["content"]


def test_ollama(server: RunningServer) -> None:
    tools = [{"type": "function", "function": FUNCTION}]
    body = {"messages": [ASKED], "tools": tools, "stream": False, "options": {"temperature": 0}}
    assert [call["id"] for call in post(server, "/api/chat", body)["message"]["tool_calls"]] == [CALL_ID]
