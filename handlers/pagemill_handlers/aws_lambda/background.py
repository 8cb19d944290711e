"""The app on an event loop thread of its own, for callers that have none: the managed Python runtime calls `handler`.

A `BackgroundServer` owns the thread and its loop; app, pool and engine belong to that loop, for the process's life. The
thread is a daemon: Lambda ends such a process by a kill, between invocations, when nothing runs.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.applications import Starlette

from pagemill.bootstrap import build_app, build_pool
from pagemill.pool import ModelPool
from pagemill.settings import Settings
from pagemill.settings_layers import load_settings
from pagemill_handlers.aws_lambda.buffered import BufferedAnswers
from pagemill_handlers.aws_lambda.cycle import Deadline
from pagemill_handlers.aws_lambda.loading import wait_until_loaded
from pagemill_handlers.aws_lambda.settings import LambdaSettings, load_lambda_settings

JSON_IS_ASCII = sys.version_info < (3, 12)  # how the managed runtime of that Python encodes what a handler returns


class LambdaContext(Protocol):
    """What is used of the managed runtime's context object."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Running:
    """What the thread has made, all of it on its loop."""

    loop: asyncio.AbstractEventLoop
    closing: asyncio.Event
    answers: BufferedAnswers


class BackgroundServer:
    """`start`, then `handle` from any thread. `close` is for tests: Lambda has no such moment."""

    def __init__(self, app: Starlette, pool: ModelPool, settings: Settings, own: LambdaSettings) -> None:
        self._app = app
        self._pool = pool
        self._settings = settings
        self._own = own
        self._running: Future[_Running] = Future()
        self._thread = threading.Thread(target=self._run, name="pagemill", daemon=True)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "BackgroundServer":
        """Begin to load the model, and build the app meanwhile.

        Raises:
            SettingsError, ModelNotFoundError, ModelLoadError: as `build_pool`.
        """
        environment = os.environ if environment is None else environment
        settings, own = load_settings({}, environment), load_lambda_settings(environment)
        pool = build_pool(settings, load_at_once=True)
        return cls(build_app(settings, pool), pool, settings, own)

    def start(self) -> None:
        """Returns when the loop runs, which is before the model is loaded, unless init is to wait for it."""
        self._thread.start()
        self._running.result()

    def handle(self, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        """Answer one event; blocks.

        Raises:
            InvalidRequestError: the event is no HTTP request.
        """
        running = self._running.result()
        return asyncio.run_coroutine_threadsafe(self._answer(running.answers, event, context), running.loop).result()

    def close(self) -> None:
        """Drain, close the engine, end the thread."""
        running = self._running.result()
        running.loop.call_soon_threadsafe(running.closing.set)
        self._thread.join()

    async def _answer(self, answers: BufferedAnswers, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        deadline = Deadline.after(context.get_remaining_time_in_millis() / 1000, self._own.deadline_margin_s)
        return await answers.answer(event, context, context.aws_request_id, deadline)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._running.done():
                raise
            self._running.set_exception(error)

    async def _serve(self) -> None:
        own, root_path = self._own, self._settings.root_path
        answers = BufferedAnswers(self._app, root_path, own.max_response_bytes, ensure_ascii=JSON_IS_ASCII)
        running = _Running(asyncio.get_running_loop(), asyncio.Event(), answers)
        async with self._app.router.lifespan_context(self._app):
            await wait_until_loaded(self._pool, own.init_wait_s)
            self._running.set_result(running)
            await running.closing.wait()
