"""What vLLM's own tests assert of its server from outside: lines 9 to 14 of the list. Each docstring is its line, or
the part of it that the test is about.
"""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from pagemill.backends.fake import EOS, FakeBackend
from support.api_server import RunningServer, Serve, wait_until
from support.model_server import ModelServer
from support.openai_requests import HELLO, choices_of, chunks, joined, refusal
from support.raw_requests import begun

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "size": {"type": "integer", "minimum": 1, "maximum": 40}},
    "required": ["colour", "size"],
    "additionalProperties": False,
}
NAMED_SCHEMA = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA}}
IS_VALID: Callable[[str], bool] = lambda text: Draft202012Validator(SCHEMA).is_valid(json.loads(text))  # noqa: E731
FORMATS: dict[str, tuple[dict[str, Any], Callable[[str], Any]]] = {
    "choice": ({"structured_outputs": {"choice": ["yes", "no"]}}, {"yes", "no"}.__contains__),
    "json": ({"structured_outputs": {"json": SCHEMA}}, IS_VALID),
    "regex": ({"structured_outputs": {"regex": r"\d{4}-[a-f]+"}}, re.compile(r"\d{4}-[a-f]+").fullmatch),
    "json_object": ({"response_format": {"type": "json_object"}}, lambda text: isinstance(json.loads(text), dict)),
    "json_schema": ({"response_format": NAMED_SCHEMA}, IS_VALID),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_9_what_ends_by_itself_is_valid(grist: ModelServer, kind: str) -> None:
    """9. Structured output: choice/json/regex/json_object/json_schema always valid when the finish_reason is stop."""
    fields, is_valid = FORMATS[kind]
    body = {**fields, "n": 8, "seed": 1, "temperature": 1.3, "max_tokens": 200}
    whole = grist.post(CHAT, {"messages": HELLO, **body}).json()["choices"]
    parts = chunks(grist.post(TEXT, {"prompt": "A thing:", **body, "stream": True}))
    ends = {choice["index"]: choice["finish_reason"] for part in parts for choice in part["choices"]}
    found = [(choice["message"]["content"], choice["finish_reason"]) for choice in whole]
    found += [(joined(parts, index), reason) for index, reason in ends.items()]
    ended = [text for text, reason in found if reason == "stop"]
    assert {reason for _text, reason in found} <= {"stop", "length"}
    assert len(ended) >= 2, "too few to tell"
    assert all(map(is_valid, ended)), ended


PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Get the current weather in a city", "parameters": PARAMETERS},
}
NAMED_TOOL = {"type": "function", "function": {"name": "get_weather"}}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("choice", "question"),
    [("auto", "What is the weather in Paris?"), ("required", "Hello!"), (NAMED_TOOL, "Hello!")],
    ids=["auto", "required", "named"],
)
def test_10_tools_are_called_by_every_choice(grist: ModelServer, choice: Any, question: str, stream: bool) -> None:
    """10. Tools: auto/required/named x streamed or not; named: content empty, arguments validate."""
    messages = [{"role": "user", "content": question}]
    body = {"messages": messages, "tools": [WEATHER], "tool_choice": choice, "temperature": 0, "max_tokens": 100}
    response = grist.post(CHAT, {**body, "parallel_tool_calls": False, "stream": stream})
    if stream:
        parts = choices_of(chunks(response))
        messages_said, reasons = [part["delta"] for part in parts], [part["finish_reason"] for part in parts]
    else:
        (found,) = response.json()["choices"]
        messages_said, reasons = [found["message"]], [found["finish_reason"]]
    calls = [call["function"] for said in messages_said for call in said.get("tool_calls") or ()]
    assert [reason for reason in reasons if reason] == ["tool_calls"]
    assert not any(said.get("content") for said in messages_said)
    assert [call["name"] for call in calls if call.get("name")] == ["get_weather"]
    arguments = json.loads("".join(call.get("arguments") or "" for call in calls))
    assert Draft202012Validator(PARAMETERS).is_valid(arguments)


@pytest.mark.parametrize("choice", ["required", NAMED_TOOL], ids=["required", "named"])
def test_10_a_demanded_call_that_is_cut_off_is_no_content(grist: ModelServer, choice: Any) -> None:
    """10. Tools: auto/required/named x streamed or not; named: content empty."""
    body = {"messages": HELLO, "tools": [WEATHER], "tool_choice": choice, "max_tokens": 1}
    (found,) = grist.post(CHAT, body).json()["choices"]
    assert found["finish_reason"] == "length"
    assert not found["message"]["content"]
    assert "tool_calls" not in found["message"]
    parts = choices_of(chunks(grist.post(CHAT, {**body, "stream": True})))
    assert not any(part["delta"].get("content") or part["delta"].get("tool_calls") for part in parts)


def test_11_messages_may_say_more_and_in_parts_and_by_anyone(serve: Serve) -> None:
    """11. Extra message fields accepted; content-part list equals string; custom roles pass to the template."""
    template = "{% for m in messages %}{{ m.role }}/{{ m.name }}:{{ m.content }};{% endfor %}"
    server = serve(FakeBackend(reply=lambda prompt: [*prompt, EOS], chat_template=template))

    def seen(**message: Any) -> str:
        answer = server.post(CHAT, {"messages": [{"role": "user", **message}], "temperature": 0}).json()
        text = answer["choices"][0]["message"]["content"]
        assert isinstance(text, str)
        return text

    assert seen(content="q", name="ann", mood={"odd": True}) == "user/ann:q;"
    assert (
        seen(content=[{"type": "text", "text": "hello there"}]) == seen(content="hello there") == "user/:hello there;"
    )
    assert seen(role="narrator", content="once") == "narrator/:once;"


def test_12_load_goes_0_1_0(serve: Serve) -> None:
    """12. `/load` goes 0, 1, 0."""
    server = serve(FakeBackend(reply=lambda prompt: [97] * 2000, step_delay_s=0.005))

    def load() -> int:
        value = server.get("/load").json()["server_load"]
        assert isinstance(value, int)
        return value

    assert load() == 0
    with httpx.stream("POST", server.url + CHAT, json={"messages": HELLO, "stream": True}) as response:
        incoming = response.iter_lines()  # kept: the response is closed with its iterator
        next(incoming)
        assert load() == 1
    wait_until(lambda: load() == 0)


def test_12_health_is_503_when_the_engine_is_dead(serve: Serve) -> None:
    """12. `/health` 503 when the engine is dead."""

    class DyingBackend(FakeBackend):
        def execute(self, plan: object) -> object:  # type: ignore[override]
            raise RuntimeError("the GPU fell off the bus")

    server = serve(DyingBackend())
    assert server.get("/health").status_code == 200
    assert server.post(TEXT, {"prompt": "hi"}).status_code >= 500
    wait_until(lambda: not server.engine.alive)
    assert refusal(server.get("/health"), 503)["code"] == "engine_dead"


def test_12_200_cancelled_10k_token_requests_free_the_server_within_5_s(serve: Serve) -> None:
    """12. **200 cancelled 10k-token requests free the server within 5 s**."""
    server = serve(FakeBackend(step_delay_s=0.01, max_model_len=16384), max_num_queued_reqs=512)
    body = {"prompt": "hi", "max_tokens": 10_000, "stream": True, "ignore_eos": True, "temperature": 0}
    connections = [begun(server.port, TEXT, body) for _ in range(200)]
    wait_until(lambda: server.engine.num_unfinished() == 200)
    for connection in connections:
        connection.close()
    begin = time.monotonic()
    wait_until(lambda: server.engine.num_unfinished() == 0, 5)
    assert server.post(TEXT, {"prompt": "x", "max_tokens": 2}).status_code == 200
    assert time.monotonic() - begin < 5
    wait_until(lambda: server.backend.num_sequences == 0)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "word " * 3000}]}, "messages"),
        (TEXT, {"prompt": [5] * 3000}, "prompt"),
    ],
    ids=["chat", "text"],
)
def test_13_what_is_too_long_is_told_with_both_lengths(
    grist: ModelServer, path: str, body: dict[str, Any], param: str, stream: bool
) -> None:
    """13. Over-length: 400 "This model's maximum context length is N tokens. However, your prompt contains M input
    tokens...".
    """
    error = refusal(grist.post(path, {**body, "stream": stream}))
    context = grist.get("/v1/models").json()["data"][0]["max_model_len"]
    length = grist.post("/tokenize", body).json()["count"] if path == CHAT else 3000
    begins = f"This model's maximum context length is {context} tokens. However, your prompt contains {length} input"
    assert error["message"].startswith(f"{begins} tokens")
    assert (error["param"], error["code"]) == (param, "context_length_exceeded")


def test_14_stop_strings_hold_back_no_more_than_they_need(server: RunningServer) -> None:
    """14. Stop strings hold back max(len)-1 characters unless include_stop_str_in_output."""
    whole = "The quick brown fox jumps over the lazy dog."
    asked = {"prompt": "hi", "temperature": 0, "max_tokens": 99, "stream": True}
    asked |= {"stop": ["quick brown fix", "lazy cat", "over"], "return_token_ids": True}
    longest = len("quick brown fix")
    for included in (False, True):
        said, num_tokens, lag = "", 0, []
        for choice in choices_of(chunks(server.post(TEXT, {**asked, "include_stop_str_in_output": included}))):
            said += choice["text"]
            num_tokens += len(choice.get("token_ids", ()))  # a token is a character here
            assert whole.startswith(said)
            if choice["finish_reason"] is None:
                lag.append(num_tokens - len(said))
        assert said == whole[: whole.index("over") + (4 if included else 0)]
        assert max(lag) == 0 if included else 0 < max(lag) <= longest - 1
