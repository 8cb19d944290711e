"""A Runtime API of our own, on loopback: unlike AWS's emulator it takes streams as they come, with their trailers.

`FakeRuntimeApi` hands out the invocations that a test makes, and records what came back and when. It also has the
extensions API. It speaks HTTP/1.1 by hand, because servers at hand hide chunks and trailers.
"""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

PRELUDE_END = bytes(8)


@dataclass(eq=False)
class FakeInvocation:
    """One invocation, and its answer as far as it has come."""

    request_id: str
    event: Any
    deadline_ms: int
    invocation_id: str | None
    kind: str = ""  # "response" or "error", once something came
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: list[tuple[float, bytes]] = field(default_factory=list)  # with their times of arrival
    trailers: Mapping[str, str] = field(default_factory=dict)
    drop_after: int | None = None  # chunks, after which the connection is cut
    handed_out: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def end(self, timeout_s: float = 20.0) -> "FakeInvocation":
        async with asyncio.timeout(timeout_s):
            await self.ended.wait()
        return self

    async def num_chunks(self, count: int, timeout_s: float = 20.0) -> None:
        """Wait until so many chunks have come."""
        async with asyncio.timeout(timeout_s):
            while len(self.chunks) < count:
                self.changed.clear()
                await self.changed.wait()

    @property
    def prelude(self) -> dict[str, Any]:
        head, _, _ = self.body.partition(PRELUDE_END)
        prelude = json.loads(head)
        assert isinstance(prelude, dict)
        return prelude

    @property
    def content(self) -> bytes:
        """What the client of a streamed answer gets."""
        _, separator, content = self.body.partition(PRELUDE_END)
        assert separator, "no prelude"
        return content

    @property
    def answer(self) -> dict[str, Any]:
        """A buffered answer."""
        answer = json.loads(self.body)
        assert isinstance(answer, dict)
        return answer

    @property
    def trailer_error(self) -> dict[str, Any]:
        error = json.loads(base64.b64decode(self.trailers["lambda-runtime-function-error-body"]))
        assert isinstance(error, dict)
        return error


class FakeRuntimeApi:
    """See the module."""

    def __init__(self) -> None:
        self.port = 0
        self.num_polling = 0
        self.max_polling = 0
        self.registrations: list[tuple[Mapping[str, str], bytes]] = []
        self.extension_waits: list[str] = []
        self.init_errors: list[dict[str, Any]] = []
        self.register_status = 200
        self.respond_status = 202
        self._waiting: asyncio.Queue[FakeInvocation] = asyncio.Queue()
        self._by_id: dict[str, FakeInvocation] = {}
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def invoke(
        self, event: Any, *, timeout_s: float = 30.0, invocation_id: str | None = None, drop_after: int | None = None
    ) -> FakeInvocation:
        request_id = f"request-{len(self._by_id) + 1}"
        deadline_ms = int((time.time() + timeout_s) * 1000)
        invocation = FakeInvocation(request_id, event, deadline_ms, invocation_id, drop_after=drop_after)
        self._by_id[request_id] = invocation
        self._waiting.put_nowait(invocation)
        return invocation

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    await self._exchange(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def close(self) -> None:
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request_line, headers = await _read_head(reader)
        method, path, _ = request_line.split(" ")
        if (method, path) == ("GET", "/2018-06-01/runtime/invocation/next"):
            await self._next(writer)
        elif path.startswith("/2018-06-01/runtime/invocation/"):
            _, _, rest = path.partition("/invocation/")
            request_id, _, kind = rest.partition("/")
            await self._take_answer(self._by_id[request_id], kind, headers, reader, writer)
        elif path == "/2018-06-01/runtime/init/error":
            self.init_errors.append(json.loads(await _read_body(reader, headers)))
            _reply(writer, 202)
        elif path == "/2020-01-01/extension/register":
            self.registrations.append((headers, await _read_body(reader, headers)))
            _reply(writer, self.register_status, {"Lambda-Extension-Identifier": "extension-1"}, b"{}")
        else:
            assert path == "/2020-01-01/extension/event/next", path
            self.extension_waits.append(headers["lambda-extension-identifier"])
            await reader.read()  # no event ever comes
            raise ConnectionResetError

    async def _next(self, writer: asyncio.StreamWriter) -> None:
        self.num_polling += 1
        self.max_polling = max(self.max_polling, self.num_polling)
        try:
            invocation = await self._waiting.get()
        finally:
            self.num_polling -= 1
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-north-1:123456789012:function:pagemill",
        }
        if invocation.invocation_id is not None:
            headers["Lambda-Runtime-Invocation-Id"] = invocation.invocation_id
        invocation.handed_out.set()
        _reply(writer, 200, headers, json.dumps(invocation.event).encode())

    async def _take_answer(
        self,
        invocation: FakeInvocation,
        kind: str,
        headers: Mapping[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        assert not invocation.kind, f"{invocation.request_id} was answered twice"
        invocation.kind, invocation.headers = kind, headers
        if headers.get("transfer-encoding") == "chunked":
            while data := await _read_chunk(reader):
                invocation.chunks.append((time.monotonic(), data))
                invocation.body += data
                invocation.changed.set()
                if len(invocation.chunks) == invocation.drop_after:
                    writer.transport.abort()
                    raise ConnectionAbortedError
            invocation.trailers = await _read_fields(reader)
        else:
            invocation.body = await _read_body(reader, headers)
        _reply(writer, self.respond_status)
        invocation.ended.set()


@asynccontextmanager
async def fake_runtime_api() -> AsyncIterator[FakeRuntimeApi]:
    """A Runtime API that listens until the block ends."""
    api = FakeRuntimeApi()
    server = await asyncio.start_server(api.serve, "127.0.0.1", 0)
    api.port = server.sockets[0].getsockname()[1]
    try:
        yield api
    finally:
        server.close()
        await api.close()
        await server.wait_closed()


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, Mapping[str, str]]:
    request_line = (await reader.readuntil(b"\r\n")).decode().strip()
    return request_line, await _read_fields(reader)


async def _read_fields(reader: asyncio.StreamReader) -> Mapping[str, str]:
    fields: dict[str, str] = {}
    while (line := (await reader.readuntil(b"\r\n")).decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    return fields


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    return await reader.readexactly(int(headers["content-length"]))


async def _read_chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readuntil(b"\r\n"), 16)
    if size == 0:
        return b""
    data = await reader.readexactly(size)
    assert await reader.readexactly(2) == b"\r\n"
    return data


def _reply(
    writer: asyncio.StreamWriter, status: int, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> None:
    """Bodies go out in chunks, as Go's server sends what it wasn't told the length of."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"HTTP/1.1 {status} Some\r\n{lines}Transfer-Encoding: chunked\r\n\r\n".encode()
    middle = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:middle], body[middle:]) if part)
    writer.write(head + chunks + b"0\r\n\r\n")
