"""A streaming HTTP/1.1 client for load tests that costs as little CPU as Python can: it shares its cores with servers.

While a run is on, it only notes when each packet came and looks for the end of the response; parsing is for
afterwards (`sse.py`). One connection per request, since llama-server closes after a stream, and all servers should pay
for the same connections. State: the response in progress, owned by its connection. Speaks `/v1/completions` with
token-id prompts, as both kinds of server do.
"""

import asyncio
import gc
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from load_tests.scenarios import PlannedRequest

LAST_CHUNK = b"\r\n0\r\n\r\n"  # JSON escapes line breaks, so these bytes are in no event of a chunked stream


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send requests, and what the server calls its model."""

    port: int
    model: str
    host: str = "127.0.0.1"
    path: str = "/v1/completions"


@dataclass(slots=True)
class RawResponse:
    """A response as it came: `packets` are (time of arrival, bytes), head included."""

    started_s: float
    status: int = 0
    packets: list[tuple[float, bytes]] = field(default_factory=list)

    @property
    def ended_s(self) -> float:
        return self.packets[-1][0]


class ConnectionLostError(Exception):
    """The server closed the connection before the response was complete."""


def encode_request(target: Target, planned: PlannedRequest) -> bytes:
    """The whole HTTP request. Greedy and deaf to end-of-sequence, so that all servers make the same count of tokens."""
    body = json.dumps(
        {
            "model": target.model,
            "prompt": planned.prompt_token_ids,
            "max_tokens": planned.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    return http_request("POST", target.path, target.host, body)


def http_request(method: str, path: str, host: str, body: bytes = b"") -> bytes:
    """One HTTP/1.1 request with a JSON body."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class StreamReader(asyncio.Protocol):
    """One connection with one request on it.

    `quick_ack`: acknowledge each packet at once. llama-server leaves Nagle's algorithm on, which holds a token back
    until the last one is acknowledged; the delay (up to 40 ms) says nothing about either engine, so it is taken out.
    """

    def __init__(self, connected: socket.socket, response: RawResponse, *, quick_ack: bool) -> None:
        self._socket = connected
        self._response = response
        self._quick_ack = quick_ack
        self._head = b""
        self._tail = b""
        self._remaining: int | None = None  # body bytes still to come, when the head said how many
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionLostError(f"connection closed before the response was complete: {exc}"))

    def data_received(self, data: bytes) -> None:
        self._response.packets.append((perf_counter(), data))
        if self._response.status == 0:
            self._read_head(data)
        elif self._remaining is not None:
            self._remaining -= len(data)
        self._tail = data[-7:] if len(data) >= 7 else (self._tail + data)[-7:]
        complete = self._remaining == 0 if self._remaining is not None else self._tail == LAST_CHUNK
        if complete and self._response.status and not self.done.done():
            self.done.set_result(None)
        elif self._quick_ack:
            # The kernel takes this as advice for now, not for ever: repeated for each packet.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _read_head(self, data: bytes) -> None:
        self._head += data
        head, end, body = self._head.partition(b"\r\n\r\n")
        if not end:
            return
        status_line, *lines = head.split(b"\r\n")
        self._response.status = int(status_line.split(b" ", 2)[1])
        for line in lines:
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                self._remaining = int(value) - len(body)


async def exchange(target: Target, request: bytes, *, quick_ack: bool = True) -> RawResponse:
    """Connect, send, read the whole response. The time measured begins before the connect.

    Raises:
        ConnectionLostError: the server closed too early.
        OSError: the server can't be connected to.
    """
    loop = asyncio.get_running_loop()
    response = RawResponse(started_s=perf_counter())
    connected = socket.socket()
    connected.setblocking(False)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        await loop.sock_connect(connected, (target.host, target.port))
    except BaseException:
        connected.close()
        raise
    transport, reader = await loop.create_connection(
        lambda: StreamReader(connected, response, quick_ack=quick_ack), sock=connected
    )
    try:
        transport.write(request)
        await reader.done
    finally:
        transport.close()
    return response


async def run_closed_loop(
    target: Target, requests: Sequence[bytes], num_clients: int, *, quick_ack: bool = True
) -> list[RawResponse]:
    """Send all requests, `num_clients` at a time: each client takes the next one when its last is answered.

    Responses come in the order of the requests. Raises the first failure of any client.
    """
    waiting = iter(enumerate(requests))
    responses: dict[int, RawResponse] = {}

    async def client() -> None:
        for index, request in waiting:
            responses[index] = await exchange(target, request, quick_ack=quick_ack)

    with _without_garbage_collection():
        async with asyncio.TaskGroup() as group:
            for _ in range(min(num_clients, len(requests))):
                group.create_task(client())
    return [responses[index] for index in range(len(requests))]


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """A collection of the packets of a whole run would stop the clock for tens of milliseconds."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
