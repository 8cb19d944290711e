"""The runtime: pollers that take invocations and answer them, all on the one event loop that the engine lives on.

`Runtime` owns the pollers and the extension. As many invocations are served at once as Lambda sends to one process
(`AWS_LAMBDA_MAX_CONCURRENCY`): they share the model, and the scheduler batches them. SIGTERM ends it: idle pollers are
cancelled, running requests get the shutdown budget to end, what is left is aborted with an error that clients see.
"""

import asyncio
import logging
import signal
from functools import cached_property
from typing import TYPE_CHECKING

from starlette.applications import Starlette

from pagemill.errors import PagemillError, SettingsError
from pagemill.pool import ModelPool
from pagemill.settings import Settings
from pagemill_handlers.aws_lambda.cycle import Deadline
from pagemill_handlers.aws_lambda.events import can_stream, check_http
from pagemill_handlers.aws_lambda.extension import InternalExtension
from pagemill_handlers.aws_lambda.loading import wait_until_loaded
from pagemill_handlers.aws_lambda.runtime_api import Invocation, RuntimeApi, RuntimeApiError
from pagemill_handlers.aws_lambda.settings import LambdaSettings
from pagemill_handlers.aws_lambda.streamed import stream_answer

if TYPE_CHECKING:
    from pagemill_handlers.aws_lambda.buffered import BufferedAnswers

logger = logging.getLogger(__name__)

DRAIN_SHARE = 0.6  # of the shutdown budget; the rest is for aborted requests to say so, and for the engine to close


class Runtime:
    """See the module. `run` returns after `stop`, or raises what a poller died of."""

    def __init__(
        self, app: Starlette, pool: ModelPool, settings: Settings, own: LambdaSettings, address: str, num_pollers: int
    ) -> None:
        self._app = app
        self._pool = pool
        self._settings = settings
        self._own = own
        self._address = address
        self._num_pollers = num_pollers
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin to end. To be called on the event loop's thread."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until `stop`.

        Raises:
            OSError, RuntimeApiError: the Runtime API is gone or failed.
        """
        if self._own.mode == "buffered":
            _ = self.buffered  # what it lacks is to show at init
        async with self._app.router.lifespan_context(self._app):
            extension = InternalExtension(self._address)
            await extension.register()
            await wait_until_loaded(self._pool, self._own.init_wait_s)
            waiting = asyncio.create_task(extension.wait(), name="extension")
            try:
                await self._poll()
            finally:
                waiting.cancel()
                await asyncio.wait((waiting,))

    def stop_on_signals(self) -> None:
        """SIGTERM and SIGINT call `stop`. Only for the main thread's loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    @cached_property
    def buffered(self) -> "BufferedAnswers":
        """Imported only where something is buffered.

        Raises:
            SettingsError: Mangum is not installed.
        """
        try:
            from pagemill_handlers.aws_lambda.buffered import BufferedAnswers
        except ImportError as error:
            raise SettingsError(f"buffered answers need Mangum: pip install 'pagemill[aws]' ({error})") from error
        own, root_path = self._own, self._settings.root_path
        return BufferedAnswers(self._app, root_path, own.max_response_bytes, ensure_ascii=False)

    async def answer(self, api: RuntimeApi, invocation: Invocation) -> None:
        """Answer one invocation, in one way or another."""
        try:
            event = check_http(invocation.event)
            if self._own.mode == "streamed" and can_stream(event):
                margin_s = self._own.deadline_margin_s
                await stream_answer(self._app, api, invocation, self._settings.root_path, margin_s)
            else:
                await self._answer_whole(api, invocation)
        except PagemillError as error:
            logger.error("invocation %s: %s", invocation.request_id, error)
            await api.fail(invocation, type(error).__name__, error.message)
        except (OSError, RuntimeApiError):
            raise  # Lambda itself is gone
        except Exception as error:
            logger.exception("invocation %s failed", invocation.request_id)
            await api.fail(invocation, type(error).__name__, str(error))

    async def _answer_whole(self, api: RuntimeApi, invocation: Invocation) -> None:
        deadline = Deadline.after(invocation.remaining_s(), self._own.deadline_margin_s)
        answer = await self.buffered.answer(invocation.event, invocation, invocation.request_id, deadline)
        await api.respond(invocation, self.buffered.encoded(answer))

    async def _poll(self) -> None:
        pollers = [_Poller(self, self._address) for _ in range(self._num_pollers)]
        tasks = [poller.task for poller in pollers]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((stopping, *tasks), return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                await self._drain(pollers)
        finally:
            for task in (stopping, *tasks):
                task.cancel()
            await asyncio.wait((stopping, *tasks))
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _drain(self, pollers: "list[_Poller]") -> None:
        for poller in pollers:
            poller.stop()
        busy = [poller.task for poller in pollers if poller.busy]
        budget_s = self._own.shutdown_budget_s
        logger.info("shutting down; %d requests get %g s to end", len(busy), budget_s * DRAIN_SHARE)
        ending = asyncio.get_running_loop().time() + budget_s
        await self._pool.drain(budget_s * DRAIN_SHARE)
        if busy:
            await asyncio.wait(busy, timeout=max(0.0, ending - asyncio.get_running_loop().time()))


class _Poller:
    """One connection's loop: next, answer, next. Stopped, it ends after the invocation that it has, if any."""

    def __init__(self, runtime: Runtime, address: str) -> None:
        self.busy = False
        self._stopped = False
        self._runtime = runtime
        self._api = RuntimeApi(address)
        self.task = asyncio.create_task(self._run(), name="poller")

    def stop(self) -> None:
        self._stopped = True
        if not self.busy:
            self.task.cancel()

    async def _run(self) -> None:
        try:
            while not self._stopped:
                invocation = await self._api.next()
                self.busy = True
                await self._runtime.answer(self._api, invocation)
                self.busy = False
        finally:
            await self._api.close()
