"""Clients that go away free what they held, streamed or not, waiting or running."""

import asyncio
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, running_server, wait_until
from support.raw_requests import begun

ENDLESS = {"ignore_eos": True, "temperature": 0}
FREED_WITHIN_S = 5.0


@pytest.fixture(scope="module")
def slow() -> Iterator[RunningServer]:
    """A server on which a request takes minutes unless it is cut off."""
    with running_server(FakeBackend(step_delay_s=0.01, max_model_len=16384), max_num_queued_reqs=512) as server:
        yield server


def freed(server: RunningServer) -> bool:
    stats = server.engine.stats()
    return server.engine.num_unfinished() == 0 and stats.num_running == 0 and stats.num_waiting == 0


def answers(server: RunningServer) -> bool:
    body = {"prompt": "x", "max_tokens": 2, "temperature": 0}
    return server.post("/v1/completions", body).status_code == 200


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "n": 3}),
        ("/v1/completions", {"prompt": "hi", "max_tokens": 10_000}),
        ("/v1/completions", {"prompt": ["a", "b", "c"], "max_tokens": 10_000, "n": 2}),
    ],
    ids=["chat", "one prompt", "batch"],
)
def test_closed_connection_frees_the_sequences(
    slow: RunningServer, path: str, body: dict[str, object], stream: bool
) -> None:
    connection = begun(slow.port, path, {**body, **ENDLESS, "stream": stream})
    wait_until(lambda: slow.engine.stats().num_running > 0)
    connection.close()
    wait_until(lambda: freed(slow), FREED_WITHIN_S)
    assert answers(slow)


def test_client_that_stops_reading_its_stream_frees_the_sequence(slow: RunningServer) -> None:
    stream = slow.client().chat.completions.create(
        model="fake", messages=[{"role": "user", "content": "hi"}], stream=True, extra_body=ENDLESS
    )
    next(iter(stream))
    assert slow.engine.num_unfinished() == 1
    stream.close()
    wait_until(lambda: freed(slow), FREED_WITHIN_S)


async def test_cancelled_async_client_frees_the_sequence(slow: RunningServer) -> None:
    async with slow.async_client() as client:
        request = asyncio.create_task(
            client.chat.completions.create(
                model="fake", messages=[{"role": "user", "content": "hi"}], extra_body=ENDLESS
            )
        )
        await asyncio.to_thread(wait_until, lambda: slow.engine.num_unfinished() == 1)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
    wait_until(lambda: freed(slow), FREED_WITHIN_S)


def test_client_that_leaves_while_the_model_loads_leaves_nothing() -> None:
    with running_server(load_delay_s=1.0, wait_ready=False) as server:
        connection = begun(server.port, "/v1/completions", {"prompt": "hi"})
        time.sleep(0.2)
        connection.close()
        wait_until(lambda: server.pool.ready)
        assert server.engine.num_unfinished() == 0
        assert answers(server)
        assert sum(server.engine.stats().finished.values()) == 1


def test_disconnect_is_logged_as_499(slow: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="pagemill.api.middleware"):
        connection = begun(slow.port, "/v1/completions", {"prompt": "hi", "max_tokens": 10_000, **ENDLESS})
        wait_until(lambda: slow.engine.num_unfinished() == 1)
        connection.close()
        wait_until(lambda: any("/v1/completions 499 " in record.getMessage() for record in caplog.records))


def test_half_sent_body_is_given_up(slow: RunningServer) -> None:
    connection = socket.create_connection(("127.0.0.1", slow.port))
    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    time.sleep(0.05)
    connection.close()
    assert answers(slow)
    assert freed(slow)


def test_keep_alive_connection_serves_several_requests(slow: RunningServer) -> None:
    with httpx.Client(base_url=slow.url) as client:
        for _ in range(3):
            body = {"prompt": "x", "max_tokens": 2, "stream": True}
            assert client.post("/v1/completions", json=body).text.endswith("data: [DONE]\n\n")
