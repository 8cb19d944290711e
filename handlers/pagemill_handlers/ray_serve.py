"""Pagemill as an application of Ray Serve: `import_path: pagemill_handlers.ray_serve:build_app`.

Each replica is a process with a model and an engine of its own; Ray Serve's proxy shares requests out among them. Only
plain arguments travel to a replica, which makes its app there, from its own environment. A replica takes requests when
its model is loaded, is replaced when its engine is dead, and ends when its requests have. May not import a backend.
"""

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application
from starlette.types import Receive, Scope, Send

from pagemill.bootstrap import build_app as build_asgi_app
from pagemill.bootstrap import build_pool
from pagemill.errors import EngineDeadError
from pagemill.settings import Settings
from pagemill.settings_layers import load_settings
from pagemill_handlers.logs import configure_logging

DEFAULT_MAX_ONGOING_REQUESTS = 16  # as many sequences as the gguf backend runs at once, left alone
SHUTDOWN_MARGIN_S = 5  # after drain_timeout_s, for the engine to close


class ReplicaApp:
    """The ASGI app of one replica, and its health. Owns the pool; its model begins to load at once."""

    def __init__(self, settings: Settings) -> None:
        self._pool = build_pool(settings, load_at_once=True)
        self._app = build_asgi_app(settings, self._pool)
        self._loaded = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def check_health(self) -> None:
        """The first check, which Ray Serve makes before a replica gets requests, waits for the default model.

        Raises:
            ModelLoadError, EngineDeadError: the replica can't serve.
        """
        if not self._loaded and self._pool.default is not None:
            async with self._pool.lease(self._pool.default.name):
                self._loaded = True
        if not self._pool.alive:
            raise EngineDeadError("the engine stopped on an error")


class Pagemill:
    """The deployment: its name in Ray Serve's configuration, its health. Serving is `serve.ingress`'s."""

    app: ReplicaApp  # put there by `serve.ingress`

    async def check_health(self) -> None:
        await self.app.check_health()


def build_app(args: Mapping[str, Any]) -> Application:
    """The application. `args` are settings by name; those that are missing come from PAGEMILL_* variables.

    A replica is sent as many requests at once as `max_num_seqs`, and is given `drain_timeout_s` to end them; the
    configuration's own `deployments` go before that.

    Raises:
        SettingsError: an argument or variable is wrong, or there is no such setting.
    """
    given = dict(args)
    settings = _settings(given)

    def replica_app() -> ReplicaApp:
        own = _settings(given)
        configure_logging(own.log_level)
        return ReplicaApp(own)

    deployment = serve.deployment(
        serve.ingress(replica_app)(Pagemill),
        name=Pagemill.__name__,
        max_ongoing_requests=settings.max_num_seqs or DEFAULT_MAX_ONGOING_REQUESTS,
        graceful_shutdown_timeout_s=settings.drain_timeout_s + SHUTDOWN_MARGIN_S,
    )
    return deployment.bind()


def _settings(args: Mapping[str, Any]) -> Settings:
    return load_settings(args, source_of=lambda name: f"args.{name}")
