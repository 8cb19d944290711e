"""The client against Pagemill's own server on the fake backend, and against servers that misbehave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
from load_tests.client import ConnectionLostError, Target, encode_request, exchange, run_closed_loop
from load_tests.runs import run_async
from load_tests.scenarios import PlannedRequest
from load_tests.sse import BadResponseError, read_record

from pagemill.backends.fake import FakeBackend
from support.api_server import running_server

ENDLESS = tuple(b"round and round " * 64)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with running_server(FakeBackend(reply=lambda prompt: ENDLESS)) as server:
        yield Target(port=server.port, model="fake")


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handler) -> AsyncIterator[Target]:
    """A server whose every connection is handled by `handle`, and is closed for good when the block ends."""
    handled: list[asyncio.Task[None]] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def to_the_end() -> None:
            await handle(reader, writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

        handled.append(asyncio.create_task(to_the_end()))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield Target(port=server.sockets[0].getsockname()[1], model="m")
    await asyncio.gather(*handled)


def test_all_requests_give_exactly_the_tokens_asked_for_in_the_order_of_the_requests(target: Target) -> None:
    planned = [PlannedRequest(tuple(b"x" * (index + 1)), 2 + index % 7) for index in range(24)]
    requests = [encode_request(target, request) for request in planned]
    responses = run_async(lambda: run_closed_loop(target, requests, 8))
    records = [read_record(response, request) for response, request in zip(responses, planned, strict=True)]
    assert [record.prompt_tokens for record in records] == [index + 1 for index in range(24)]
    assert [len(record.text_times_s) for record in records] == [request.max_tokens for request in planned]
    assert all(record.started_s < record.text_times_s[0] <= record.ended_s for record in records)


async def test_a_closed_loop_keeps_no_more_requests_open_than_it_has_clients() -> None:
    open_now = most = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.01)
        open_now -= 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with serving(serve) as target:
        responses = await run_closed_loop(target, [encode_request(target, PlannedRequest((1,), 1))] * 20, 4)
    assert len(responses) == 20
    assert most == 4


def test_a_refused_request_is_an_error_that_shows_the_answer(target: Target) -> None:
    planned = PlannedRequest((100_000,), 4)
    [response] = run_async(lambda: run_closed_loop(target, [encode_request(target, planned)], 1))
    with pytest.raises(BadResponseError, match=r"status 400.*100000"):
        read_record(response, planned)


async def test_a_server_that_closes_in_the_midst_of_a_stream_is_an_error() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata:")
        await writer.drain()

    async with serving(serve) as target:
        with pytest.raises(ConnectionLostError):
            await exchange(target, encode_request(target, PlannedRequest((1,), 1)))


async def test_a_response_that_comes_byte_by_byte_is_complete_only_at_its_end() -> None:
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ndata: x\r\n0\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for byte in body:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    async with serving(serve) as target:
        response = await exchange(target, encode_request(target, PlannedRequest((1,), 1)))
    assert b"".join(data for _, data in response.packets) == body
    assert response.status == 200
