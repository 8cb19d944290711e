"""Behaviour 13: `format` constrains the output to JSON or a schema, after the thinking; anything else is an error."""

import json
from collections.abc import Iterator
from typing import Any, Literal

import ollama
import pytest
from pydantic import BaseModel, Field

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, running_server
from support.ollama_requests import conversation, error, lines, question

THINKING = "{% for m in messages %}{{ m.content }}{% endfor %}{% if enable_thinking %}<think>\n{% endif %}"
RANDOM = {"options": {"temperature": 1.0, "seed": 3, "num_predict": 400}}


class Thing(BaseModel, extra="forbid"):
    colour: Literal["red", "green"]
    sizes: list[int] = Field(min_length=1, max_length=3)


SCHEMA = Thing.model_json_schema()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """Its model says at random what it may."""
    with running_server(FakeBackend(reply=lambda prompt: None)) as running:
        yield running


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("path", "ask"), [("/api/generate", question), ("/api/chat", conversation)])
def test_13_a_schema_holds(server: RunningServer, path: str, ask: Any, stream: bool) -> None:
    said = lines(server.post(path, ask("hi", format=SCHEMA, stream=stream) | RANDOM))
    text = "".join(line.get("response") or line.get("message", {}).get("content", "") for line in said)
    assert said[-1]["done_reason"] == "stop"
    assert Thing.model_validate_json(text).colour in ("red", "green")


def test_13_the_official_client_gets_what_it_asked_for(server: RunningServer) -> None:
    client = ollama.Client(host=server.url, timeout=30)
    answer = client.chat("fake", [{"role": "user", "content": "hi"}], format=SCHEMA, options={"seed": 1})
    assert Thing.model_validate_json(answer.message.content or "")
    client.close()  # type: ignore[no-untyped-call]  # the library lacks the annotation


def test_13_json_is_any_object(server: RunningServer) -> None:
    body = question("hi", format="json", raw=True, stream=False) | {"options": {"temperature": 0, "num_predict": 60}}
    said = lines(server.post("/api/generate", body))[-1]
    assert said["response"].startswith("{")
    if said["done_reason"] == "stop":
        assert isinstance(json.loads(said["response"]), dict)


@pytest.mark.parametrize("given", ["yaml", 5, True, ["json"]])
@pytest.mark.parametrize(("path", "ask"), [("/api/generate", question), ("/api/chat", conversation)])
def test_13_another_format_is_a_400_that_names_it(server: RunningServer, path: str, ask: Any, given: Any) -> None:
    assert error(server.post(path, ask("hi", format=given)), 400).startswith(f"invalid format: {given!r}")


@pytest.mark.parametrize("given", [None, ""])
def test_13_no_format_is_none(server: RunningServer, given: Any) -> None:
    assert lines(server.post("/api/generate", question("hi", format=given, stream=False)))[0]["response"]


@pytest.mark.parametrize("stream", [True, False])
def test_13_a_wrong_schema_is_a_400_that_says_where(server: RunningServer, stream: bool) -> None:
    wrong = {"type": "object", "properties": {"a": {"type": "thing"}}}
    answer = error(server.post("/api/chat", conversation("hi", format=wrong, stream=stream)), 400)
    assert answer == "format at /properties/a: Invalid type: thing"


def test_13_a_format_holds_after_the_thinking() -> None:
    backend = FakeBackend(reply=lambda prompt: [*b"well...</think>"], chat_template=THINKING)
    with running_server(backend) as server:
        body = conversation("hi", format=SCHEMA, think=True, stream=False)
        message = lines(server.post("/api/chat", body))[-1]["message"]
    assert message["thinking"].startswith("well...")
    assert Thing.model_validate_json(message["content"])
