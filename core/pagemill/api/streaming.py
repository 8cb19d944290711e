"""Responses that follow a generation: streamed ones, and the watch for clients that go away.

Owns no state beyond one response. Knows no dialect: items are ready-made bytes. The per-token path is a measured
target, so a delta costs one `anext` and one `send`, nothing else.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from pagemill.api.errors import translate
from pagemill.errors import PagemillError

T = TypeVar("T")

SSE_MEDIA_TYPE = "text/event-stream; charset=utf-8"
NDJSON_MEDIA_TYPE = "application/x-ndjson"


async def until_disconnect(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Run `work` to its end, or cancel it as soon as the client goes away. The request's body must be read before.

    Raises:
        ClientDisconnect: the client went away; `work` has been cancelled and has cleaned up.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
    finally:
        watching.cancel()
        working.cancel()  # of a task that is done: nothing
        await asyncio.wait((working, watching))
    return working.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class ItemStream:
    """A response whose body is an async generator's items, each sent as it comes.

    The first item is pulled before the headers go out, so an error that comes before it is answered with its real
    status. A later error becomes a last item made by `render_error`, then the body ends. The generator is always
    closed: at its end, on an error, on cancellation, and at once when the client goes away; what it holds (a lease, an
    engine stream) belongs into its `with` and `finally` blocks.
    """

    def __init__(
        self,
        items: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        render_error: Callable[[PagemillError], bytes],
    ) -> None:
        self.items = items
        self.media_type = media_type
        self.render_error = render_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await until_disconnect(self._send_all(scope, send), receive)

    async def _send_all(self, scope: Scope, send: Send) -> None:
        items = self.items
        try:
            first = await anext(items, b"")
            await send({"type": "http.response.start", "status": 200, "headers": self._headers()})
            await send({"type": "http.response.body", "body": first, "more_body": True})
            try:
                async for item in items:
                    try:
                        await send({"type": "http.response.body", "body": item, "more_body": True})
                    except OSError as error:  # how ASGI 2.4 servers say that the client is gone
                        raise ClientDisconnect from error
            except ClientDisconnect:
                raise
            except Exception as error:
                last = self.render_error(translate(error, scope))
                await send({"type": "http.response.body", "body": last, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await items.aclose()

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"content-type", self.media_type.encode("ascii")),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),  # nginx would hold the tokens back
        ]
