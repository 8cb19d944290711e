"""Answers of /v1/messages, whole and streamed, as Anthropic's own client reads them."""

import json
from typing import Any

import anthropic
import pytest

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, Serve

ANSWER = "Hm.</think>Let me see, é😀."
CALLS = (
    '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>\n<tool_call>{"name": "g", "arguments": {}}</tool_call>'
)
TOOLS: list[Any] = [
    {"name": "f", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    {"name": "g", "description": "Does g", "input_schema": {"type": "object"}},
]
GREEDY = {"temperature": 0}


def asked(text: str, **fields: Any) -> Any:
    extra = {**GREEDY, **fields.pop("extra_body", {})}
    return {
        "model": "fake",
        "max_tokens": 400,
        "messages": [{"role": "user", "content": text}],
        "extra_body": extra,
        **fields,
    }


def raw_events(server: RunningServer, body: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The names and data of a stream's events."""
    response = server.post("/v1/messages", {**body, "stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = []
    for item in response.text.strip().split("\n\n"):
        name, data = item.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_a_message_has_thinking_and_text_in_blocks(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**asked(ANSWER))
    assert (message.type, message.role, message.model) == ("message", "assistant", "fake")
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    thinking, text = message.content
    assert thinking.type == "thinking"
    assert thinking.thinking == "Hm."
    assert thinking.signature, "clients send back only what is signed"
    assert text.type == "text"
    assert text.text == "Let me see, é😀."


def test_events_come_in_their_order(server: RunningServer) -> None:
    body = {"model": "fake", "max_tokens": 300, "tools": TOOLS, **GREEDY}
    messages = [{"role": "user", "content": f"Hm.</think>See.{CALLS}"}]
    found = raw_events(server, {**body, "messages": messages})
    assert all(name == data["type"] for name, data in found)
    kinds = [
        data["delta"]["type"] if name == "content_block_delta" else data.get("content_block", {}).get("type") or name
        for name, data in found
    ]
    once = [kind for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] != kind]
    tool_use = ["tool_use", "input_json_delta", "content_block_stop"]
    assert once == [
        *("message_start", "ping"),
        *("thinking", "thinking_delta", "signature_delta", "content_block_stop"),
        *("text", "text_delta", "content_block_stop"),
        *tool_use,
        *tool_use,
        *("message_delta", "message_stop"),
    ]
    starts = [data["index"] for name, data in found if name == "content_block_start"]
    assert starts == [0, 1, 2, 3]
    assert found[0][1]["message"]["content"] == []
    assert found[0][1]["message"]["stop_reason"] is None


@pytest.mark.parametrize(
    "text", [ANSWER, "Only thought", "</think>Only text", f"Hm.</think>See.{CALLS}", f"</think>{CALLS}", "</think>"]
)
def test_the_stream_put_together_is_the_whole_message(client: anthropic.Anthropic, text: str) -> None:
    whole = client.messages.create(**asked(text, tools=TOOLS))
    with client.messages.stream(**asked(text, tools=TOOLS)) as stream:
        streamed = stream.get_final_message()
    assert streamed.stop_reason == whole.stop_reason
    assert [without_id(block) for block in streamed.content] == [without_id(block) for block in whole.content]
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert streamed.usage.output_tokens_details == whole.usage.output_tokens_details


def without_id(block: Any) -> dict[str, Any]:
    return {name: value for name, value in block.to_dict().items() if name != "id"}


def test_calls_are_blocks_with_their_input(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**asked(f"</think>{CALLS}", tools=TOOLS))
    assert message.stop_reason == "tool_use"
    found = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
    assert found == [("f", {"a": 1}), ("g", {})]
    assert len({block.id for block in message.content if block.type == "tool_use"}) == 2


@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_that_is_cut_off_has_what_there_is_of_its_input(client: anthropic.Anthropic, streamed: bool) -> None:
    text = '</think><tool_call>{"name": "f", "arguments": {"a": 1, "b": "unfinished"}}</tool_call>'
    body = {**asked(text, tools=TOOLS), "max_tokens": text.index("finished")}
    if streamed:
        with client.messages.stream(**body) as stream:
            message: Any = stream.get_final_message()
    else:
        message = client.messages.create(**body)
    assert message.stop_reason == "max_tokens"
    assert message.content[-1].input == {"a": 1}


def test_stop_reasons(client: anthropic.Anthropic, serve: Serve) -> None:
    assert client.messages.create(**{**asked("</think>Hello"), "max_tokens": 10}).stop_reason == "max_tokens"
    stopped = client.messages.create(**asked("</think>One. Two. Three.", stop_sequences=["Three", "Two"]))
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "Two")
    assert stopped.content[0].to_dict() == {"type": "text", "text": "One. "}
    inside = client.messages.create(**asked(f"</think>{CALLS}", tools=TOOLS, stop_sequences=["arguments"]))
    assert inside.stop_reason == "stop_sequence", "a call that was cut is none to be made"
    small = serve(FakeBackend(max_model_len=64))
    body = {"model": "fake", "max_tokens": 64, "messages": [{"role": "user", "content": "A" * 15}]}
    assert small.post("/v1/messages", body).json()["stop_reason"] == "model_context_window_exceeded"


def test_usage_tells_what_was_cached(client: anthropic.Anthropic) -> None:
    text = "</think>" + "What is said twice is computed once. " * 4
    first = client.messages.create(**asked(text)).usage
    second = client.messages.create(**asked(text)).usage
    with client.messages.stream(**asked(text)) as stream:
        third = stream.get_final_message().usage
    assert first.cache_read_input_tokens is not None
    assert second.cache_read_input_tokens is not None
    assert second.cache_read_input_tokens > first.cache_read_input_tokens
    total = first.input_tokens + first.cache_read_input_tokens
    assert second.input_tokens + second.cache_read_input_tokens == total
    assert second.cache_creation_input_tokens == 0
    assert (third.input_tokens, third.cache_read_input_tokens) == (second.input_tokens, second.cache_read_input_tokens)
    assert client.messages.count_tokens(model="fake", messages=asked(text)["messages"]).input_tokens == total
    assert first.output_tokens_details is not None
    assert first.output_tokens_details.thinking_tokens == len("</think>")


def test_nothing_is_generated_with_max_tokens_0(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**{**asked("Hello"), "max_tokens": 0})
    assert (message.content, message.stop_reason, message.usage.output_tokens) == ([], "max_tokens", 0)


def test_an_answer_goes_on_with_the_assistants_last_message(client: anthropic.Anthropic) -> None:
    messages: list[Any] = [{"role": "user", "content": "blue."}, {"role": "assistant", "content": "The sky is "}]
    message = client.messages.create(**{**asked(""), "messages": messages})
    assert message.content[0].to_dict() == {"type": "text", "text": "blue."}


def test_text_is_held_to_a_schema(client: anthropic.Anthropic) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 9}}, "required": ["a"]}
    config: Any = {"format": {"type": "json_schema", "schema": {**schema, "additionalProperties": False}}}
    message = client.messages.create(**asked('</think>{"a": 12345}', output_config=config))
    (block,) = [block for block in message.content if block.type == "text"]
    assert set(json.loads(block.text)) == {"a"}
    assert json.loads(block.text)["a"] <= 9


@pytest.mark.parametrize(("choice", "names"), [({"type": "any"}, {"f", "g"}), ({"type": "tool", "name": "g"}, {"g"})])
def test_calls_that_are_demanded_are_made(client: anthropic.Anthropic, choice: Any, names: set[str]) -> None:
    choice = {**choice, "disable_parallel_tool_use": True}
    message = client.messages.create(**asked("</think>No.", tools=TOOLS, tool_choice=choice))
    (block,) = [block for block in message.content if block.type == "tool_use"]
    assert message.stop_reason == "tool_use"
    assert block.name in names


def test_with_choice_none_nothing_is_called_and_without_parallel_use_one_tool_is(client: anthropic.Anthropic) -> None:
    one: Any = {"type": "auto", "disable_parallel_tool_use": True}
    message = client.messages.create(**asked(f"</think>{CALLS}", tools=TOOLS, tool_choice=one))
    assert [block.type for block in message.content] == ["tool_use"]
    none: Any = {"type": "none"}
    message = client.messages.create(**asked(f"</think>{CALLS}", tools=TOOLS, tool_choice=none))
    assert [block.type for block in message.content] == ["text"]


def test_thinking_is_switched_and_left_out(client: anthropic.Anthropic) -> None:
    off: Any = {"type": "disabled"}
    assert [block.type for block in client.messages.create(**asked("Hello", thinking=off)).content] == ["text"]
    adaptive: Any = {"type": "adaptive"}
    found = client.messages.create(**asked(ANSWER, thinking=adaptive)).content
    assert [block.type for block in found] == ["thinking", "text"]
    omitted: Any = {"type": "adaptive", "display": "omitted"}
    message = client.messages.create(**asked(ANSWER, thinking=omitted))
    assert [block.type for block in message.content] == ["text"]
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == len("Hm.</think>")


def test_what_asks_for_what_happens_anyway_is_taken(server: RunningServer) -> None:
    """As Claude Code and others send it."""
    cached = {"type": "ephemeral"}
    body = {
        "model": "fake",
        "max_tokens": 1,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": cached}]}],
        "tools": [{**TOOLS[0], "type": "custom", "cache_control": cached, "eager_input_streaming": True}],
        "metadata": {"user_id": "me"},
        "service_tier": "auto",
        "speed": "standard",
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "container": None,
    }
    response = server.post("/v1/messages?beta=true", body, headers={"anthropic-beta": "context-management-2025-06-27"})
    assert response.status_code == 200, response.text


def test_the_answer_names_the_request(server: RunningServer) -> None:
    body = {"model": "fake", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    for fields in ({}, {"stream": True}):
        headers = {"x-request-id": "mine"}
        response = server.post("/v1/messages", {**body, **fields}, headers=headers)
        assert response.headers["request-id"] == response.headers["x-request-id"] == "mine"
        assert "msg_mine" in response.text
