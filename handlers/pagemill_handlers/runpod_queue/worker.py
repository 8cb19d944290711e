"""The handler that RunPod's package calls: a job in, pieces of its answer out, through the app.

A `QueueWorker` owns the app's life, on the one event loop that RunPod's package runs, and so the engine is fed by all
jobs at once. A piece is what came since the last one was sent, so a slow connection to RunPod makes pieces larger, not
answers slower.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
from starlette.applications import Starlette

from pagemill.api.errors import openai_error
from pagemill.api.in_process import InProcessTransport
from pagemill.errors import PagemillError
from pagemill.pool import ModelPool
from pagemill.settings import Settings
from pagemill_handlers.runpod_queue.job import request_of

BASE_URL = "http://runpod-queue"
EVENT_STREAM = "text/event-stream"
END_OF_STREAM = "[DONE]"


class QueueWorker:
    """See the module. `handle` and `max_concurrency` are for RunPod's package."""

    def __init__(self, app: Starlette, pool: ModelPool, settings: Settings) -> None:
        self._app = app
        self._pool = pool
        self._num_seqs = settings.max_num_seqs or 1  # until the engine says what it can hold
        self._client = httpx.AsyncClient(transport=InProcessTransport(app), base_url=BASE_URL, timeout=None)
        self._life: asyncio.Task[None] | None = None  # from the first use on

    def max_concurrency(self, current: int) -> int:
        """How many jobs to run at once: as many as the engine holds sequences, once it is loaded."""
        self._begin()
        for status in self._pool.loaded():
            self._num_seqs = status.model.engine.max_num_seqs
        return self._num_seqs

    async def handle(self, job: Mapping[str, Any]) -> AsyncIterator[Any]:
        """The answer to a job: one object, or pieces if it is to be streamed. An error is an object with the one field
        `error`, which fails the job: the OpenAI dialect's error, as text. Closed early, it ends the request.
        """
        self._begin()
        try:
            wanted = request_of(job.get("input"))
        except PagemillError as error:
            yield _failure(openai_error(error))
            return
        headers = {"x-request-id": str(job.get("id", ""))}
        async with self._client.stream(wanted.method, wanted.path, json=wanted.body, headers=headers) as response:
            if not response.headers.get("content-type", "").startswith(EVENT_STREAM):
                answer = json.loads(await response.aread())
                yield answer if response.is_success else _failure(answer)
                return
            async for piece in response.aiter_bytes():
                for output in [piece.decode()] if wanted.raw else _outputs(piece):
                    yield output

    def _begin(self) -> None:
        """Start the app's life. It ends with the event loop, which cancels it when RunPod's package is through."""
        if self._life is None:
            self._life = asyncio.get_running_loop().create_task(self._live(), name="app")

    async def _live(self) -> None:
        async with self._app.router.lifespan_context(self._app):
            await asyncio.Event().wait()


def _outputs(piece: bytes) -> list[Any]:
    """The chunks of a piece of an event stream, as one list; then the error that it ends with, if it does."""
    data = [line.removeprefix("data: ") for line in piece.decode().split("\n") if line.startswith("data: ")]
    chunks = [json.loads(item) for item in data if item != END_OF_STREAM]
    good = [chunk for chunk in chunks if "error" not in chunk]
    failures = [_failure(chunk) for chunk in chunks if "error" in chunk]
    return [*([good] if good else []), *failures]


def _failure(answer: Mapping[str, Any]) -> dict[str, str]:
    return {"error": json.dumps(answer["error"], ensure_ascii=False)}
