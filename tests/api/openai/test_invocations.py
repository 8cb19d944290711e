"""SageMaker's one route: chats and texts, streamed or not, whatever its headers say."""

import json
from typing import Any

import pytest

from support.api_server import RunningServer, Serve

CHAT = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 8}
TEXT = {"prompt": "hi", "temperature": 0, "max_tokens": 8}
KINDS = pytest.mark.parametrize(
    ("body", "path"), [(CHAT, "/v1/chat/completions"), (TEXT, "/v1/completions")], ids=["chat", "text"]
)


def without_identity(answer: dict[str, Any]) -> dict[str, Any]:
    """Without what tells two answers to one question apart: names, and how much of the prompt was cached."""
    return {name: value for name, value in answer.items() if name not in ("id", "created", "usage")}


def events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [without_identity(json.loads(line)) for line in lines[:-1]]


@KINDS
def test_a_body_is_answered_as_by_the_route_that_it_is_for(body: Any, path: str, server: RunningServer) -> None:
    answer = server.post("/invocations", body)
    assert answer.status_code == 200
    assert without_identity(answer.json()) == without_identity(server.post(path, body).json())


@KINDS
def test_a_stream_is_the_one_of_that_route(body: Any, path: str, server: RunningServer) -> None:
    streamed = {**body, "stream": True}
    answer = server.post("/invocations", streamed)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert events(answer.text) == events(server.post(path, streamed).text)


def test_what_sagemaker_says_of_types_and_in_headers_of_its_own_does_no_harm(server: RunningServer) -> None:
    headers = {
        "content-type": "application/octet-stream",
        "accept": "application/x-recordio-protobuf",
        "X-Amzn-SageMaker-Custom-Attributes": "trace=1",
        "X-Amzn-SageMaker-Target-Model": "other.tar.gz",
        "X-Amzn-SageMaker-Inference-Id": "7",
    }
    answer = server.http.post(server.url + "/invocations", content=json.dumps(CHAT), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("body", [{}, {"inputs": "hi"}, {**CHAT, **TEXT}, {"messages": None, "prompt": None}])
def test_a_body_that_is_neither_or_both_is_refused_with_both_names(body: Any, server: RunningServer) -> None:
    answer = server.post("/invocations", body)
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert "messages" in message
    assert "prompt" in message


def test_a_field_that_is_wrong_is_named(server: RunningServer) -> None:
    answer = server.post("/invocations", {**CHAT, "temperature": "hot"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "temperature")
    unknown = server.post("/invocations", {**TEXT, "inputs": "hi"})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "inputs")


def test_what_is_no_json_is_refused(server: RunningServer) -> None:
    answer = server.http.post(server.url + "/invocations", content=b"1,2,3")
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]["message"]


def test_it_takes_a_key_like_all_else(serve: Serve) -> None:
    running = serve(api_key=("secret",))
    assert running.post("/invocations", CHAT).status_code == 401
    assert running.post("/invocations", CHAT, headers={"x-api-key": "secret"}).status_code == 200
