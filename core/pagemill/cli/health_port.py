"""The port that answers probes and nothing else: what comes in by it is let through only to them.

Owns no state. Both ports are one server's, so the probes speak of the event loop that serves requests.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from pagemill.api.context import route_path
from pagemill.api.errors import error_response
from pagemill.api.middleware import PROBE_PATHS
from pagemill.errors import NotFoundError


class HealthPort:
    """The app behind it, with all routes but the probes shut to connections to `port`."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._comes_in_here(scope) and route_path(scope) not in PROBE_PATHS:
            error = NotFoundError(f"There is no {route_path(scope)} on port {self._port}, which answers probes only.")
            await error_response(error, scope)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _comes_in_here(self, scope: Scope) -> bool:
        server = scope.get("server")  # None by a Unix socket
        return server is not None and server[1] == self._port
