"""The connection by itself, against a peer that sends what the test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from pagemill_handlers.aws_lambda.connection import Connection

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Some: Thing\r\n\r\nhello"


class Peer:
    """Replies to each request with the next script: pieces, each sent by itself; then perhaps closes."""

    def __init__(self, scripts: Sequence[Sequence[bytes]], *, close_after_each: bool) -> None:
        self.scripts = list(scripts)
        self.close_after_each = close_after_each
        self.num_connections = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while self.scripts:
                    await reader.readuntil(b"\r\n\r\n")
                    for piece in self.scripts.pop(0):
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(0.002)
                    if self.close_after_each:
                        break
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def connected(
    *scripts: Sequence[bytes], close_after_each: bool = False
) -> AsyncIterator[tuple[Connection, Peer]]:
    peer = Peer(scripts, close_after_each=close_after_each)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    connection = Connection("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        yield connection, peer
    finally:
        await connection.close()
        await asyncio.wait_for(asyncio.gather(*peer.tasks), 5)
        server.close()
        await server.wait_closed()


async def test_a_reply_in_any_pieces_is_put_together() -> None:
    pieces = [HELLO[i : i + 1] for i in range(len(HELLO))]
    async with connected(pieces) as (connection, _):
        reply = await connection.request("GET", "/", {})
    assert (reply.status, reply.body, reply.headers["x-some"]) == (200, b"hello", "Thing")


async def test_exchanges_share_one_connection() -> None:
    async with connected([HELLO], [HELLO], [HELLO]) as (connection, peer):
        for _ in range(3):
            await connection.request("GET", "/", {})
        assert peer.num_connections == 1


async def test_a_connection_that_the_peer_closed_in_between_is_made_again() -> None:
    async with connected([HELLO], [HELLO], close_after_each=True) as (connection, peer):
        await connection.request("GET", "/", {})
        await asyncio.sleep(0.05)
        await connection.request("GET", "/", {})
        assert peer.num_connections == 2


@pytest.mark.parametrize("cut", [b"", HELLO[:20], HELLO[:-1], b"SMTP ready\r\n"])
async def test_a_reply_that_is_cut_off_or_no_http_is_an_oserror(cut: bytes) -> None:
    async with connected([cut], [HELLO], close_after_each=True) as (connection, _):
        with pytest.raises(ConnectionError):
            await connection.request("GET", "/", {})
        assert (await connection.request("GET", "/", {})).body == b"hello"


async def test_a_cancelled_exchange_leaves_no_half_read_connection() -> None:
    async with connected([HELLO[:20]], [HELLO]) as (connection, peer):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.request("GET", "/", {}), 0.1)
        assert (await connection.request("GET", "/", {})).body == b"hello"
        assert peer.num_connections == 2
