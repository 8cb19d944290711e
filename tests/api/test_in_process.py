"""The transport that carries requests into an app of this process."""

import asyncio

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from pagemill.api.in_process import InProcessTransport

START = {"type": "http.response.start", "status": 200, "headers": []}


def client(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=InProcessTransport(app), base_url="http://app", timeout=None)


async def test_a_body_is_read_while_the_app_writes_it() -> None:
    written = asyncio.Queue[bytes]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while body := await written.get():
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body"})

    async with client(app).stream("GET", "/") as response:
        pieces = response.aiter_bytes()
        written.put_nowait(b"one")
        assert await anext(pieces) == b"one"
        written.put_nowait(b"two")
        assert await anext(pieces) == b"two"
        written.put_nowait(b"")
        assert [piece async for piece in pieces] == []


async def test_a_slow_reader_gets_what_has_come_in_one_piece() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number in range(3):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})

    async with client(app).stream("GET", "/") as response:
        await asyncio.sleep(0.01)
        assert [piece async for piece in response.aiter_bytes()] == [b"012end"]


@pytest.mark.parametrize("started", [True, False])
async def test_a_reader_that_goes_is_a_client_that_goes(started: bool) -> None:
    gone = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if started:
            await send(START)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async def read() -> None:
        async with client(app).stream("GET", "/") as response:
            async for _piece in response.aiter_bytes():
                pass

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.01)
    reading.cancel()
    await asyncio.wait([reading])
    assert gone.is_set()


async def test_what_the_app_lets_out_comes_out() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        await client(app).get("/")


async def test_an_answer_that_breaks_off_is_an_error() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)

    with pytest.raises(httpx.RemoteProtocolError, match="ended early"):
        await client(app).get("/")
