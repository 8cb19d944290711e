"""What the dialects of one answer share: clients that go away, failures in mid-stream, and a server that is full."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, Serve, running_server, wait_until
from support.raw_requests import begun

BODIES = [
    pytest.param(
        "/v1/messages",
        {"model": "fake", "max_tokens": 10_000, "messages": [{"role": "user", "content": "x"}]},
        id="anthropic",
    ),
    pytest.param("/v1/responses", {"input": "x", "temperature": 0}, id="responses"),
]


@pytest.fixture(scope="module")
def slow() -> Iterator[RunningServer]:
    """A server on which an answer takes minutes unless it is cut off."""
    endless = FakeBackend(reply=lambda prompt: [97] * 16_000, step_delay_s=0.01, max_model_len=16384)
    with running_server(endless) as server:
        yield server


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("path", "body"), BODIES)
def test_a_client_that_goes_away_frees_the_engine(
    slow: RunningServer, path: str, body: dict[str, Any], stream: bool
) -> None:
    with begun(slow.port, path, {**body, "stream": stream}):
        wait_until(lambda: slow.engine.stats().num_running > 0)
    wait_until(lambda: slow.engine.num_unfinished() == 0 and slow.engine.stats().num_running == 0)


def failing() -> FakeBackend:
    """A backend that breaks in the middle of its answer."""
    steps = itertools.count()
    return FakeBackend(fail_on=lambda plan: "worn out" if next(steps) > 5 else None)


def test_a_response_that_fails_in_mid_stream_says_so(serve: Serve) -> None:
    client = serve(failing()).client()
    events: list[Any] = list(client.responses.create(model="fake", input="x", temperature=0, stream=True))
    *_deltas, error, failed = events
    assert (error.type, failed.type) == ("error", "response.failed")
    assert error.message == "worn out"
    assert failed.response.status == "failed"
    assert failed.response.error is not None
    assert (failed.response.error.code, failed.response.error.message) == ("server_error", "worn out")
    assert [item.to_dict()["status"] for item in failed.response.output] == ["incomplete"]
    assert failed.sequence_number == error.sequence_number + 1


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_a_failure_before_the_answer_has_its_status(serve: Serve, path: str, body: dict[str, Any]) -> None:
    server = serve(FakeBackend(fail_on=lambda plan: "worn out"))
    for stream in (True, False):
        response = server.post(path, {**body, "stream": stream})
        assert response.status_code == 500
        assert "worn out" in response.json()["error"]["message"]
