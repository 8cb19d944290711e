"""uvicorn as `pagemill serve` runs it: announces when the model is ready, drains on a signal, tells how it ended.

Owns the server's life between two signals. Imported only after the model's load has begun.
"""

import asyncio
import gc
import logging
import math
import socket
from contextlib import suppress
from types import FrameType
from typing import Any

from starlette.applications import Starlette
from starlette.types import ASGIApp

from pagemill.cli.browser_guard import guarded
from pagemill.errors import DrainingError, PagemillError
from pagemill.partial_import import bare_package
from pagemill.pool import ModelPool
from pagemill.settings import Settings

with bare_package("uvicorn") as package:  # which is its command line, with click and multiprocessing
    from uvicorn.config import Config
    from uvicorn.server import Server

    package.Config = Config  # where uvicorn.lifespan.on looks for it
    # What the configuration below imports by name:
    import uvicorn.lifespan.on
    import uvicorn.loops.auto

    with suppress(ImportError):  # not on Windows
        import uvicorn.loops.uvloop  # noqa: F401
    from pagemill.cli.http_protocol import PagemillProtocol

logger = logging.getLogger(__name__)

ABORT_GRACE_S = 5  # for aborted requests to send their last bytes, after drain_timeout_s


def serve(
    app: Starlette, pool: ModelPool, settings: Settings, listeners: list[socket.socket], addresses: list[str]
) -> int:
    """Serve until a signal, or until the model's load fails. Returns the exit code. The second listener, if there is
    one, is for probes.
    """
    config = Config(
        _behind_health_port(guarded(app, settings), *listeners[1:]),
        loop="auto",
        http=PagemillProtocol,
        h11_max_incomplete_event_size=settings.max_header_bytes,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        root_path=settings.root_path,
        forwarded_allow_ips=list(settings.forwarded_allow_ips),
        **_tls_options(settings),
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s) + ABORT_GRACE_S,
    )
    server = DrainingServer(config, pool, settings.drain_timeout_s, addresses)
    server.run(sockets=listeners)
    return 0 if server.failure is None and not server.force_exit else 1


def _tls_options(settings: Settings) -> dict[str, Any]:
    if settings.ssl_certfile is None:
        return {}
    from pagemill.cli import tls

    return tls.server_options(settings)


def _behind_health_port(app: ASGIApp, *health: socket.socket) -> ASGIApp:
    if not health:
        return app
    from pagemill.cli.health_port import HealthPort

    return HealthPort(app, health[0].getsockname()[1])


class DrainingServer(Server):
    """Drains the pool as soon as a signal comes: uvicorn alone would let requests that wait begin to run."""

    def __init__(self, config: Config, pool: ModelPool, drain_timeout_s: float, addresses: list[str]) -> None:
        super().__init__(config)
        self.failure: PagemillError | None = None  # why the model could not be loaded
        self._pool = pool
        self._drain_timeout_s = drain_timeout_s
        self._addresses = addresses

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # else uvicorn raises them again in the end, and the exit code is the signal's

    async def main_loop(self) -> None:
        gc.freeze()  # what was imported stays for good: no collection needs to look at it
        gc.enable()
        logger.info("listening at %s", ", and for probes at ".join(self._addresses))
        announcing = asyncio.create_task(self._announce())
        await super().main_loop()
        announcing.cancel()
        await asyncio.wait([announcing])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        num_running = sum(status.model.engine.num_unfinished() for status in self._pool.loaded())
        logger.info("shutting down; %d requests get %g s to end", num_running, self._drain_timeout_s)
        draining = asyncio.create_task(self._pool.drain(self._drain_timeout_s))
        await super().shutdown(sockets)
        await draining

    async def _announce(self) -> None:
        """Log the address once the model is ready; if it can't be loaded, end the server."""
        reference = self._pool.default
        if reference is None:
            num_models = len(self._pool.references())
            logger.info("serving %d models at %s: each is loaded when it is asked for", num_models, self._addresses[0])
            return
        try:
            async with self._pool.lease(reference.name) as model:
                logger.info(
                    "serving %s at %s: context %d, up to %d sequences at once",
                    reference.name,
                    self._addresses[0],
                    model.engine.max_model_len,
                    model.engine.max_num_seqs,
                )
        except DrainingError:
            return
        except PagemillError as error:
            self.failure = error
            self.should_exit = True
