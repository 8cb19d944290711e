"""What a client of the engine reads: the deltas of its request, as they come.

A `RequestStream` lives on the engine's event loop, and belongs to one reader. May not import backends.
"""

import asyncio
from collections import deque
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pagemill.errors import RequestTimeoutError
from pagemill.generation import Delta

if TYPE_CHECKING:
    from pagemill.engine.engine import Engine

# Whoever wants to know how the generations of its context ended sets a list here; their last deltas are put into it.
ended_generations: ContextVar[list[Delta] | None] = ContextVar("ended_generations", default=None)


class RequestStream:
    """The deltas of one request's n sequences, interleaved, each told by its `choice_index`. An asynchronous iterator
    that ends when every sequence has had its `finish_reason`, or when it is closed. For one reader.
    """

    def __init__(self, engine: "Engine", key: int, n: int, timeout_s: float) -> None:
        self.n = n
        self._engine = engine
        self._key = key
        self._num_open = n
        self._deltas: deque[Delta] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._ended = ended_generations.get()
        self._timer: asyncio.TimerHandle | None = None
        if timeout_s > 0:
            message = f"the request took longer than {timeout_s:g} s"
            self._timer = asyncio.get_running_loop().call_later(timeout_s, self.fail, RequestTimeoutError(message))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        while not self._deltas:
            if self._error is not None:
                raise self._error
            if self._num_open == 0:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._deltas.popleft()

    def next_ready(self) -> Delta | None:
        """A delta that has come already and ends no sequence, None if there is none: lets a reader that lags behind
        write several at once. Never waits or raises.
        """
        deltas = self._deltas
        return deltas.popleft() if deltas and deltas[0].finish_reason is None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def push(self, delta: Delta) -> bool:
        """From the engine: a delta has come. Returns whether it was the last."""
        self._deltas.append(delta)
        if delta.finish_reason is not None:
            self._num_open -= 1
            if self._ended is not None:
                self._ended.append(delta)
            if self._num_open == 0 and self._timer is not None:
                self._timer.cancel()
        self._wake()
        return self._num_open == 0

    def fail(self, error: Exception) -> None:
        """End the request; its reader gets the error after the deltas that have come."""
        if self._num_open > 0:
            self._error = error
            self.close()

    def close(self) -> None:
        """End what still runs; its KV is freed on the next turn of the step loop. Idempotent."""
        self._num_open = 0
        if self._timer is not None:
            self._timer.cancel()
        self._engine.cancel(self._key)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
