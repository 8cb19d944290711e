"""The engine streams of one HTTP request: one for each prompt, read as one, ended as one.

A `Batch` owns its streams, and the tasks that read them if there are several, while it is entered. All prompts run at
once; deltas come in the order in which the engine gives them, so no prompt waits for another.
"""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pagemill.api.answer_reader import check_finish
from pagemill.engine.engine import Engine
from pagemill.engine.request_stream import RequestStream
from pagemill.generation import Delta, GenerationRequest

if TYPE_CHECKING:
    from pagemill.engine.embedding_engine import EmbeddingEngine

NumberedDelta = tuple[int, Delta]


class Batch:
    """`with Batch(...) as batch: async for number, delta in batch`; numbers are in prompt x n order.

    The iteration raises what a stream raises, BackendError if a sequence failed, UnavailableError if it was cut off.
    """

    def __init__(self, engine: "Engine | EmbeddingEngine", requests: Sequence[GenerationRequest]) -> None:
        self._engine = engine
        self._requests = requests
        self._streams: list[RequestStream] = []
        self._readers: list[asyncio.Task[None]] = []
        self._num_reading = 0
        self._arrived: asyncio.Queue[NumberedDelta | Exception | None] = asyncio.Queue()  # None: a reader is done
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Submit all requests, or none: if one is refused, those before it are ended."""
        with ExitStack() as opening:
            self._streams = [opening.enter_context(self._engine.generate(request)) for request in self._requests]
            self._open = opening.pop_all()
        if len(self._streams) > 1:
            self._readers = [
                asyncio.create_task(self._read(stream, index * stream.n)) for index, stream in enumerate(self._streams)
            ]
            self._num_reading = len(self._readers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        for reader in self._readers:
            reader.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> NumberedDelta:
        if not self._readers:
            delta = await self._streams[0].__anext__()
            if delta.finish_reason is not None:
                check_finish(delta)
            return delta.choice_index, delta
        while self._num_reading:
            item = await self._arrived.get()
            if isinstance(item, Exception):
                raise item
            if item is not None:
                return item
            self._num_reading -= 1
        raise StopAsyncIteration

    def next_ready(self) -> NumberedDelta | None:
        """A delta that has come already and ends no sequence, if there is one. Never waits or raises."""
        delta = None if self._readers else self._streams[0].next_ready()
        return None if delta is None else (delta.choice_index, delta)

    async def _read(self, stream: RequestStream, first: int) -> None:
        try:
            async for delta in stream:
                if delta.finish_reason is not None:
                    check_finish(delta)
                self._arrived.put_nowait((first + delta.choice_index, delta))
        except Exception as error:  # the iteration raises it
            self._arrived.put_nowait(error)
        self._arrived.put_nowait(None)
