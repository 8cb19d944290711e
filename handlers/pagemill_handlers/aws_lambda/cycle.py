"""One request through the ASGI app, ended in time: at its deadline Lambda kills a sandbox, and no client learns why.

A `Cycle` owns one request and one response; where the response goes is its sink's business. States: not started (a
late request is cancelled and answered 504); started (a late stream gets a `RequestTimeoutError` out of its next `send`,
which it renders as its dialect's last item; if none comes, it is cancelled); ended (the app is told of a disconnect).
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from starlette.types import ASGIApp, Message, Scope

from pagemill.api.errors import error_response
from pagemill.errors import PagemillError, RequestTimeoutError
from pagemill_handlers.aws_lambda.runtime_api import RawHeaders


class Sink(Protocol):
    """Where a response goes. Raises an OSError when nobody is there to take it."""

    async def start(self, status: int, headers: RawHeaders) -> None: ...

    async def write(self, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Deadline:
    """In the event loop's time: from `soft` on a request is asked to end, at `hard` it is cancelled."""

    soft: float
    hard: float

    @classmethod
    def after(cls, remaining_s: float, margin_s: float) -> "Deadline":
        """So long before the sandbox is killed, in `remaining_s`. Half of the margin is for the last words."""
        kill = asyncio.get_running_loop().time() + remaining_s
        return cls(kill - margin_s, kill - margin_s / 2)


class Cycle:
    """See the module. `run` may be called once."""

    def __init__(self, scope: Scope, body: bytes, sink: Sink, deadline: Deadline) -> None:
        self._scope = scope
        self._body: bytes | None = body  # None once the app has it
        self._sink = sink
        self._deadline = deadline
        self._started = False
        self._overdue = False
        self._ended = asyncio.Event()

    async def run(self, app: ASGIApp) -> None:
        """Returns when the response is complete, or nobody takes it any more.

        Raises:
            RequestTimeoutError: the deadline came in the middle of the response.
            Exception: whatever the app let out; a RuntimeError if it gave no response.
        """
        working = asyncio.create_task(self._call(app))
        try:
            await self._wait(working, self._deadline.soft)
            self._overdue = not working.done()
            if self._started:
                await self._wait(working, self._deadline.hard)
        finally:
            working.cancel()  # of a task that is done: nothing
            await asyncio.wait((working,))
        if not working.cancelled():
            working.result()
            if not self._started:
                raise RuntimeError("the app ended without a response")
        elif self._started:
            raise _late()
        else:
            await self.answer(_late())

    async def answer(self, error: PagemillError) -> None:
        """Send the error as the whole response, in the shape of the dialect that was asked."""
        self._overdue = False
        await error_response(error, self._scope)(self._scope, self._receive, self._send)

    async def _call(self, app: ASGIApp) -> None:
        await app(self._scope, self._receive, self._send)

    async def _wait(self, working: "asyncio.Task[None]", until: float) -> None:
        await asyncio.wait((working,), timeout=max(0.0, until - asyncio.get_running_loop().time()))

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._ended.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            await self._sink.start(message["status"], message.get("headers", ()))
            return
        more = message.get("more_body", False)
        if self._overdue and more:
            self._overdue = False  # once: what the app says to it must pass
            raise _late()
        await self._sink.write(message.get("body", b""))
        if not more:
            self._ended.set()


def _late() -> RequestTimeoutError:
    return RequestTimeoutError("the request ran into the function's timeout; ask for less, or raise the timeout")
