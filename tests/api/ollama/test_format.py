"""`format` of a chat or a text: what else there is to it than the list's line, which tests/behaviours has."""

from collections.abc import Iterator
from typing import Any, Literal

import ollama
import pytest
from pydantic import BaseModel, Field

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, running_server
from support.ollama_requests import conversation, error, lines, question


class Thing(BaseModel, extra="forbid"):
    colour: Literal["red", "green"]
    sizes: list[int] = Field(min_length=1, max_length=3)


SCHEMA = Thing.model_json_schema()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """Its model says at random what it may."""
    with running_server(FakeBackend(reply=lambda prompt: None)) as running:
        yield running


def test_the_official_client_gets_what_it_asked_for(server: RunningServer) -> None:
    client = ollama.Client(host=server.url, timeout=30)
    answer = client.chat("fake", [{"role": "user", "content": "hi"}], format=SCHEMA, options={"seed": 1})
    assert Thing.model_validate_json(answer.message.content or "")
    client.close()  # type: ignore[no-untyped-call]  # the library lacks the annotation


@pytest.mark.parametrize("given", [None, ""])
def test_no_format_is_none(server: RunningServer, given: Any) -> None:
    assert lines(server.post("/api/generate", question("hi", format=given, stream=False)))[0]["response"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_wrong_schema_is_a_400_that_says_where(server: RunningServer, stream: bool) -> None:
    wrong = {"type": "object", "properties": {"a": {"type": "thing"}}}
    answer = error(server.post("/api/chat", conversation("hi", format=wrong, stream=stream)), 400)
    assert answer == "format at /properties/a: Invalid type: thing"
