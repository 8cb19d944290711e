"""The app without a server: an httpx transport that carries requests straight into it, for programs that host both.

Owns the exchange between one httpx request and the ASGI app in the same event loop. httpx's own ASGI transport hands
over a body only when it is complete; this one streams.
"""

import asyncio
from collections.abc import AsyncIterator

import httpx
from starlette.types import ASGIApp, Message, Scope


class InProcessTransport(httpx.AsyncBaseTransport):
    """Carries requests to the app and streams its answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)  # as of every request of an asynchronous client
        exchange = _Exchange(self._app, _scope(request), request.stream)
        try:
            start = await exchange.next_message()
        except BaseException:
            await exchange.aclose()
            raise
        return httpx.Response(start["status"], headers=start.get("headers", []), stream=exchange, request=request)


def _scope(request: httpx.Request) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (request.url.host, None),
        "client": None,
    }


class _Exchange(httpx.AsyncByteStream):
    """One request's run of the app. Closing it before its end is the client going away."""

    def __init__(self, app: ASGIApp, scope: Scope, body: httpx.AsyncByteStream) -> None:
        self._request: AsyncIterator[Message] = _request_messages(body)
        self._gone = asyncio.Event()
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()  # None: the app returned or raised
        self._running = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._messages.put)
        finally:
            self._messages.put_nowait(None)

    async def _receive(self) -> Message:
        async for message in self._request:
            return message
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def next_message(self) -> Message:
        """The app's next message; raises what the app raised."""
        message = await self._messages.get()
        if message is None:
            await self._running
            raise httpx.RemoteProtocolError("the answer ended early")
        return message

    async def __aiter__(self) -> AsyncIterator[bytes]:
        more, piece = True, b""
        while more:
            message = await self.next_message()
            more = message.get("more_body", False)
            piece += message.get("body", b"")
            if piece and (not more or self._messages.empty()):  # what has come goes in one: readers may be slow
                yield piece
                piece = b""

    async def aclose(self) -> None:
        self._gone.set()
        await asyncio.wait([self._running])


async def _request_messages(body: httpx.AsyncByteStream) -> AsyncIterator[Message]:
    async for piece in body:
        yield {"type": "http.request", "body": piece, "more_body": True}
    yield {"type": "http.request", "body": b"", "more_body": False}
