"""uvicorn's protocol as ours: upgrades that nobody takes, and headers without end."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from pagemill.cli.http_protocol import PagemillProtocol

MAX_HEADER_BYTES = 4096
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the path and the body that came."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    text = json.dumps([scope["path"], body.decode()]).encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@asynccontextmanager
async def connection() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    config = Config(echo, ws="none", log_config=None, h11_max_incomplete_event_size=MAX_HEADER_BYTES)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: PagemillProtocol(config, ServerState(), {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    yield reader, writer
    writer.close()
    server.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    return int(head.split()[1]), await reader.readexactly(int(length.split()[1]))


def exchange(*segments: bytes, num_answers: int = 1) -> list[tuple[int, bytes]]:
    """Send these, each by itself, and read so many answers; the connection ends with them if they say so."""

    async def run() -> list[tuple[int, bytes]]:
        async with connection() as (reader, writer):
            for segment in segments:
                writer.write(segment)
                await writer.drain()
                await asyncio.sleep(0.01)  # so that they are not read as one; as one they must do as well
            return [await read_answer(reader) for _ in range(num_answers)]

    return asyncio.run(run())


def post(path: str, body: bytes, headers: bytes = b"", framing: bytes | None = None) -> bytes:
    framing = framing if framing is not None else b"Content-Length: %d\r\n" % len(body)
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n%s" % (path.encode(), headers, framing, body)


def answer(path: str, body: str) -> tuple[int, bytes]:
    return 200, json.dumps([path, body]).encode()


def test_a_request_that_offers_http_2_keeps_its_body() -> None:
    assert exchange(post("/a", b"text", OFFER)) == [answer("/a", "text")]


def test_it_keeps_a_body_that_comes_after_its_head_or_in_chunks() -> None:
    whole = post("/a", b"text", OFFER)
    chunked = post("/b", b"2\r\nte\r\n2\r\nxt\r\n0\r\n\r\n", OFFER, b"Transfer-Encoding: chunked\r\n")
    assert exchange(whole[:-4], whole[-4:]) == [answer("/a", "text")]
    assert exchange(chunked[:-12], chunked[-12:]) == [answer("/b", "text")]


def test_requests_follow_each_other_on_a_connection_whichever_offer_an_upgrade() -> None:
    requests = [post("/a", b"1", OFFER), post("/b", b"2"), post("/c", b"", OFFER), post("/d", b"4", OFFER)]
    expected = [answer("/a", "1"), answer("/b", "2"), answer("/c", ""), answer("/d", "4")]
    assert exchange(*requests, num_answers=4) == expected
    assert exchange(b"".join(requests), num_answers=4) == expected


@pytest.mark.parametrize("cut", range(1, len(post("/a", b"text", OFFER)), 7))
def test_where_such_a_request_is_cut_changes_nothing(cut: int) -> None:
    whole = post("/a", b"text", OFFER)
    assert exchange(whole[:cut], whole[cut:]) == [answer("/a", "text")]


def test_an_offer_of_web_sockets_is_passed_over() -> None:
    offer = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    assert exchange(post("/a", b"text", offer)) == [answer("/a", "text")]


@pytest.mark.parametrize(
    "request_head",
    [
        post("/a", b"", b"X-Long: " + b"x" * MAX_HEADER_BYTES + b"\r\n"),
        post("/a", b"", b"X-Many: x\r\n" * (MAX_HEADER_BYTES // 7)),
        post("/" + "a" * MAX_HEADER_BYTES, b""),
    ],
    ids=["one header", "many headers", "address"],
)
def test_a_whole_head_above_the_limit_is_431(request_head: bytes) -> None:
    [(status, text)] = exchange(request_head)
    assert status == 431
    assert text == b"The headers are larger than 4096 bytes (setting max_header_bytes)."


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET / HTTP/1.1\r\nX-Endless: ",
        b"GET /",
        post("/", b"", OFFER + b"X-Endless: ", b""),
        post("/", b"0\r\nX-Trailer: ", b"", b"Transfer-Encoding: chunked\r\n"),
        post("/", b"1;extension=", b"", b"Transfer-Encoding: chunked\r\n"),
    ],
    ids=["header", "address", "header of an offer", "trailer", "chunk extension"],
)
def test_what_never_ends_is_431_soon_after_the_limit(beginning: bytes) -> None:
    segments = [beginning.removesuffix(b"\r\n"), *([b"x" * 1000] * 5)]
    assert [status for status, _ in exchange(*segments)] == [431]


def test_a_body_may_be_larger_than_headers() -> None:
    body = "x" * MAX_HEADER_BYTES * 3
    assert exchange(post("/a", body.encode())) == [answer("/a", body)]
    assert exchange(post("/a", b""), *[post("/b", body.encode())] * 2, num_answers=3)[1:] == [answer("/b", body)] * 2


def test_what_is_no_http_is_400() -> None:
    assert exchange(b"\x16\x03\x01\x02") == [(400, b"Invalid HTTP request received.")]
