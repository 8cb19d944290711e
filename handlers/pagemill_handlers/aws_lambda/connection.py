"""A keep-alive HTTP/1.1 connection to Lambda's local APIs: one exchange at a time, and requests sent in chunks.

A `Connection` owns its socket. Of our own, because no HTTP client at hand sends trailers, by which Lambda is told of an
error in mid-stream; httptools parses the replies. Knows nothing of Lambda.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import httptools

READ_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """Connects when first used, and again after an exchange that failed. Failures are OSErrors."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Reply:
        """One exchange. Waits for the reply for ever; cancelled, it closes the connection."""
        try:
            writer = await self._open()
            writer.write(self._head(method, path, {**headers, "Content-Length": str(len(body))}) + body)
            await writer.drain()
            return await self._read_reply()
        except BaseException:
            await self.close()
            raise

    async def begin(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Begin a request whose body is sent in chunks: `send_chunk` any number of times, then `finish`."""
        writer = await self._open()
        writer.write(self._head(method, path, {**headers, "Transfer-Encoding": "chunked"}))

    async def send_chunk(self, data: bytes) -> None:
        """Send a chunk at once; returns when there is room for another. An empty one would end the body: not sent."""
        if data:
            assert self._writer is not None, "no request was begun"
            self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await self._writer.drain()

    async def finish(self, trailers: Mapping[str, str]) -> Reply:
        """End the body, with trailers, which the request's Trailer header has announced; then the reply."""
        assert self._writer is not None, "no request was begun"
        try:
            self._writer.write(b"0\r\n" + _lines(trailers) + b"\r\n")
            await self._writer.drain()
            return await self._read_reply()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Idempotent; the next exchange connects again."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _open(self) -> asyncio.StreamWriter:
        if self._reader is not None and self._reader.at_eof():
            await self.close()
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self._writer

    def _head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        fields = {"Host": f"{self._host}:{self._port}", **headers}
        return f"{method} {path} HTTP/1.1\r\n".encode("ascii") + _lines(fields) + b"\r\n"

    async def _read_reply(self) -> Reply:
        assert self._reader is not None
        parser = _ReplyParser()
        while not parser.complete:
            data = await self._reader.read(READ_BYTES)
            if not data:
                raise ConnectionResetError(f"{self._host}:{self._port} closed the connection before its reply's end")
            parser.feed(data)
        if not parser.keep_alive:
            await self.close()
        return parser.reply()


class _ReplyParser:
    """Collects one reply from httptools' callbacks."""

    def __init__(self) -> None:
        self.complete = False
        self.keep_alive = False
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise ConnectionError(f"the reply is not HTTP: {error}") from error

    def reply(self) -> Reply:
        return Reply(self._parser.get_status_code(), self._headers, bytes(self._body))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        self.keep_alive = self._parser.should_keep_alive()
        self.complete = True


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
