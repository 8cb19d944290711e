"""Errors: their shape, what Anthropic's client makes of them, and what is refused by the field that is wrong."""

import itertools
import json
from typing import Any

import anthropic
import pytest

from pagemill.backends.fake import FakeBackend
from pagemill.engine.engine import EngineConfig
from support.api_server import RunningServer, Serve, wait_until
from support.chat_scripts import scripted

USER = {"role": "user", "content": "x"}
BODY: dict[str, Any] = {"model": "fake", "max_tokens": 2000, "messages": [USER]}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
COLOUR = {"type": "json_schema", "schema": {"type": "colour"}}


def content(*blocks: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [USER, {"role": role, "content": list(blocks)}]}


WRONG = [
    ({"max_tokens": None}, "max_tokens is required"),
    ({"model": None}, "model is required"),
    ({"max_tokens": -1}, "max_tokens: "),
    ({"messages": []}, "messages must not be empty"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content must not be empty"),
    ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role"),
    ({"temperature": 1.5}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_k": -1}, "top_k"),
    ({"stop_sequences": ["a", ""]}, "stop_sequences[1]"),
    ({"stop_sequences": ["a"] * 100}, "max_stop"),
    ({"service_tier": "fast"}, "service_tier"),
    ({"container": "c"}, "container"),
    ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, "context_management"),
    ({"mcp_servers": [{}]}, "the client has to call them"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.budget_tokens must be below max_tokens"),
    ({"thinking": {"type": "adaptive", "budget_tokens": 1024}}, "thinking.budget_tokens"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema is required"),
    ({"tools": [{**TOOL, "name": "a b"}]}, "tools[0].name"),
    ({"tools": [TOOL, TOOL]}, "tools[1].name"),
    ({"tools": [{**TOOL, "defer_loading": True}]}, "tools[0].defer_loading"),
    ({"tools": [{**TOOL, "eager_input_streaming": False}]}, "tools[0].eager_input_streaming"),
    ({"tools": [{"name": "f", "input_schema": {"type": "array"}}]}, "tools[0].input_schema.type"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"tools": [TOOL], "tool_choice": {"type": "auto", "name": "f"}}, "tool_choice.name"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "z"}}, "tool_choice"),
    ({"cache_control": {"type": "eternal"}}, "cache_control.type"),
    ({"system": [{"type": "image"}]}, "system[0].type"),
    (content({"type": "image", "source": {"type": "base64", "data": ""}}), "messages[1].content[0].type 'image'"),
    (content({"type": "document", "source": {}}), "messages[1].content[0].type 'document'"),
    (content({"text": "x"}), "messages[1].content[0].type"),
    (content({"type": "text"}), "messages[1].content[0].text is required"),
    (content({"type": "text", "text": "x", "citations": [{"type": "page"}]}), "messages[1].content[0].citations"),
    (content({"type": "text", "text": "x", "odd": 1}), "messages[1].content[0].odd"),
    (content({"type": "tool_use", "id": "a", "name": "f", "input": {}}), "messages[1].content[0].type 'tool_use'"),
    (content({"type": "tool_result", "tool_use_id": "a"}), "messages[1].content[0].tool_use_id 'a'"),
    (content({"type": "redacted_thinking", "data": "x"}, role="assistant"), "messages[1].content[0].type"),
    (content({"type": "tool_use", "id": "a", "name": "f", "input": {}}, role="assistant"), "tool_result blocks"),
    ({"output_config": {"format": COLOUR}}, "output_config.format.schema"),
]


@pytest.mark.parametrize(("fields", "says"), WRONG)
def test_what_is_wrong_is_a_400_that_names_it(server: RunningServer, fields: dict[str, Any], says: str) -> None:
    body = {name: value for name, value in {**BODY, **fields}.items() if value is not None}
    response = server.post("/v1/messages", body)
    assert response.status_code == 400
    error = response.json()
    assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
    assert says in error["error"]["message"]
    assert error["request_id"] == response.headers["request-id"]


def test_a_thread_is_refused_by_the_code_at_which_the_clients_go_on_without(server: RunningServer) -> None:
    error = server.post("/v1/messages", {**BODY, "thread": {"type": "create"}}).json()["error"]
    assert error["details"] == {"error_code": "thread_unsupported_request"}
    assert error["message"].startswith("thread {'type': 'create'} is not supported")


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_can_not_do_it_is_a_400(serve: Serve, stream: bool) -> None:
    plain = serve(scripted("{{ messages[0].content }}"))
    for fields in ({"tools": [TOOL]}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}):
        response = plain.post("/v1/messages", {**BODY, **fields, "stream": stream})
        assert response.status_code == 400
        assert next(iter(fields)) in response.json()["error"]["message"]
    history = content({"type": "tool_use", "id": "a", "name": "f", "input": {}}, role="assistant")["messages"]
    history.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]})
    message = plain.post("/v1/messages", {**BODY, "messages": history}).json()["error"]["message"]
    assert message == '"fake" does not support tools'


def test_the_client_raises_what_it_raises_for_anthropics_servers(serve: Serve) -> None:
    server = serve(api_key=["right"], max_body_bytes=1000, max_requests_per_minute=4)
    with anthropic.Anthropic(base_url=server.url, api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            stranger.messages.create(**BODY)
        assert refused.value.type == "authentication_error"
    with anthropic.Anthropic(base_url=server.url, api_key="right", max_retries=0) as client:
        assert client.messages.create(**BODY).content
        with pytest.raises(anthropic.NotFoundError) as unknown:
            client.messages.create(**{**BODY, "model": "claude"})
        assert unknown.value.type == "not_found_error"
        with pytest.raises(anthropic.APIStatusError) as long:
            client.messages.create(**{**BODY, "messages": [{"role": "user", "content": "x" * 1000}]})
        assert (long.value.status_code, long.value.type) == (413, "request_too_large")
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(**BODY, extra_body={"odd": 1})
        with pytest.raises(anthropic.RateLimitError) as often:
            client.messages.create(**BODY)
        assert often.value.type == "rate_limit_error"
        assert often.value.request_id == often.value.response.headers["x-request-id"]


def test_other_paths_and_methods_have_the_shape_too(server: RunningServer) -> None:
    response = server.get("/v1/messages")
    assert response.status_code == 405
    assert response.json()["error"]["type"] == "invalid_request_error"
    response = server.get("/v1/messages/batches")
    assert (response.status_code, response.json()["error"]["type"]) == (404, "not_found_error")
    response = server.get("/v1/files", headers={"anthropic-version": "2023-06-01"})
    assert (response.status_code, response.json()["error"]["type"]) == (404, "not_found_error")
    assert "type" not in server.get("/v1/files").json(), "without the header it is OpenAI's shape"


def test_a_full_server_is_overloaded(serve: Serve) -> None:
    server = serve(FakeBackend(step_delay_s=0.05, max_num_seqs=1), config=EngineConfig(max_num_queued_reqs=0))
    with server.http.stream("POST", f"{server.url}/v1/messages", json={**BODY, "stream": True}):
        wait_until(lambda: server.engine.num_unfinished() == 1)
        response = server.post("/v1/messages", BODY)
    assert (response.status_code, response.json()["error"]["type"]) == (503, "overloaded_error")
    assert "retry-after" in response.headers


def failing() -> FakeBackend:
    """A backend that breaks in the middle of its answer."""
    steps = itertools.count()
    return FakeBackend(fail_on=lambda plan: "worn out" if next(steps) > 5 else None)


def test_a_failure_in_mid_stream_is_an_error_event(serve: Serve) -> None:
    stream = serve(failing()).post("/v1/messages", {**BODY, "stream": True}).text
    name, data = stream.strip().split("\n\n")[-1].split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"] == {"type": "api_error", "message": "worn out"}


def test_the_client_raises_on_a_failure_in_mid_stream(serve: Serve) -> None:
    with (
        anthropic.Anthropic(base_url=serve(failing()).url, api_key="unused", max_retries=0) as client,
        client.messages.stream(**BODY) as stream,
        pytest.raises(anthropic.APIError, match="worn out"),
    ):
        stream.get_final_message()
