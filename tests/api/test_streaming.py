"""The streaming response by itself: what is sent, and that the generator is closed in every case."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from pagemill.api.context import EXCHANGE_KEY, Exchange
from pagemill.api.streaming import ItemStream, until_disconnect
from pagemill.errors import BackendError, InvalidRequestError, PagemillError

SCOPE = {"type": "http", "path": "/", EXCHANGE_KEY: Exchange("r-1")}


class Client:
    """The two ends that a server gives an app. The client stays until `leave` is called."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.left = asyncio.Event()

    def leave(self) -> None:
        self.left.set()

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message["type"] == "http.response.body"]


class Items:
    """A generator that knows whether it was closed."""

    def __init__(self, *items: bytes | Exception, wait_at_end: bool = False) -> None:
        self.closed = False
        self._items = items
        self._wait_at_end = wait_at_end

    async def generate(self) -> AsyncGenerator[bytes, None]:
        try:
            for item in self._items:
                await asyncio.sleep(0)
                if isinstance(item, Exception):
                    raise item
                yield item
            if self._wait_at_end:
                await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # a lease that is given back may have to wait
            self.closed = True


def response(items: Items) -> ItemStream:
    def render_error(error: PagemillError) -> bytes:
        return b"error: " + error.message.encode()

    return ItemStream(items.generate(), media_type="text/plain", render_error=render_error)


async def test_every_item_is_one_message() -> None:
    client, items = Client(), Items(b"a", b"b", b"c")
    await response(items)(SCOPE, client.receive, client.send)
    assert client.sent[0]["status"] == 200
    assert client.bodies == [b"a", b"b", b"c", b""]
    assert [message.get("more_body") for message in client.sent[1:]] == [True, True, True, False]
    assert items.closed


async def test_no_items_are_an_empty_body() -> None:
    client, items = Client(), Items()
    await response(items)(SCOPE, client.receive, client.send)
    assert b"".join(client.bodies) == b""
    assert client.sent[-1]["more_body"] is False


async def test_error_before_the_first_item_is_raised_with_nothing_sent() -> None:
    client, items = Client(), Items(InvalidRequestError("no"))
    with pytest.raises(InvalidRequestError):
        await response(items)(SCOPE, client.receive, client.send)
    assert client.sent == []
    assert items.closed


async def test_later_error_is_the_last_item() -> None:
    client, items = Client(), Items(b"a", BackendError("gone"))
    await response(items)(SCOPE, client.receive, client.send)
    assert client.bodies == [b"a", b"error: gone", b""]
    assert items.closed


async def test_later_unknown_error_shows_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    client, items = Client(), Items(b"a", RuntimeError("secret"))
    await response(items)(SCOPE, client.receive, client.send)
    assert b"secret" not in b"".join(client.bodies)
    assert b"r-1" in client.bodies[1]
    assert "secret" in caplog.text


async def test_generator_is_closed_when_the_client_leaves_while_it_waits() -> None:
    client, items = Client(), Items(b"a", wait_at_end=True)
    asyncio.get_running_loop().call_later(0.01, client.leave)
    with pytest.raises(ClientDisconnect):
        await response(items)(SCOPE, client.receive, client.send)
    assert items.closed
    assert client.bodies == [b"a"]


async def test_generator_is_closed_when_the_client_leaves_before_the_first_item() -> None:
    client, items = Client(), Items(wait_at_end=True)
    asyncio.get_running_loop().call_later(0.01, client.leave)
    with pytest.raises(ClientDisconnect):
        await response(items)(SCOPE, client.receive, client.send)
    assert items.closed
    assert client.sent == []


async def test_generator_is_closed_when_the_client_does_not_read() -> None:
    client, items = Client(), Items(b"a", b"b")

    async def stuck(message: Message) -> None:
        await asyncio.Event().wait()

    asyncio.get_running_loop().call_later(0.01, client.leave)
    with pytest.raises(ClientDisconnect):
        await response(items)(SCOPE, client.receive, stuck)
    assert items.closed


async def test_generator_is_closed_when_send_fails() -> None:
    client, items = Client(), Items(b"a", b"b", b"c")

    async def broken(message: Message) -> None:
        if message.get("body") == b"b":
            raise OSError("gone")
        await client.send(message)

    with pytest.raises(ClientDisconnect):
        await response(items)(SCOPE, client.receive, broken)
    assert items.closed
    assert client.bodies == [b"a"]


async def test_generator_is_closed_when_the_server_cancels() -> None:
    client, items = Client(), Items(b"a", wait_at_end=True)
    task = asyncio.create_task(response(items)(SCOPE, client.receive, client.send))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert items.closed


async def test_no_task_is_left_behind() -> None:
    before = asyncio.all_tasks()
    for items in (Items(b"a"), Items(b"a", BackendError("x")), Items(b"a", wait_at_end=True)):
        client = Client()
        asyncio.get_running_loop().call_later(0.01, client.leave)
        try:
            await response(items)(SCOPE, client.receive, client.send)
        except ClientDisconnect:
            continue
    assert asyncio.all_tasks() == before


async def test_until_disconnect_returns_what_the_work_returns() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 5

    assert await until_disconnect(work(), Client().receive) == 5


async def test_until_disconnect_raises_what_the_work_raises() -> None:
    async def work() -> None:
        raise BackendError("x")

    with pytest.raises(BackendError):
        await until_disconnect(work(), Client().receive)


async def test_work_that_is_done_when_the_client_leaves_still_counts() -> None:
    client = Client()
    client.leave()

    async def work() -> int:
        return 5

    assert await until_disconnect(work(), client.receive) == 5
