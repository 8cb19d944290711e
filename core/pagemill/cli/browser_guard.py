"""What keeps web pages away from a server on their reader's own machine.

A page can name 127.0.0.1 in its requests, or have its own name lead there (DNS rebinding); the browser then sends what
it says from inside. So a server that listens on a loopback address answers only requests that name this machine in
Host, as Ollama's does, and that come from a page of this machine, of an allowed origin, or of no web page at all. Owns
no state. Servers that listen elsewhere are named by whoever runs them: `allowed_hosts` holds there too, if it is set.
"""

import logging
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from pagemill.api.context import route_path
from pagemill.api.errors import error_response
from pagemill.api.middleware import PROBE_PATHS, header
from pagemill.api.origins import is_allowed
from pagemill.cli.listening import is_for_this_machine
from pagemill.errors import ForbiddenError
from pagemill.settings import Settings

logger = logging.getLogger(__name__)

LOCAL_NAME_ENDINGS = (".localhost", ".local", ".internal")
ANY = "*"
OPAQUE = "null"  # what a sandboxed frame of any page sends


class BrowserGuard:
    """The app behind it, for requests that a local program or an allowed page may make."""

    def __init__(
        self, app: ASGIApp, *, local: bool, allowed_hosts: Sequence[str], allowed_origins: Sequence[str]
    ) -> None:
        self._app = app
        self._local = local
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self._allowed_origins = tuple(allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and route_path(scope) not in PROBE_PATHS:  # probes name the pod's address
            error = self._refusal(scope)
            if error is not None:
                logger.warning("refused a request: %s", error)
                await error_response(error, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ForbiddenError | None:
        host = _name_in((header(scope, b"host") or b"").decode("latin-1"))
        if not self._names_us(host):
            return ForbiddenError(f"The host {host!r} is not served here (allowed_hosts).")
        origin = (header(scope, b"origin") or b"").decode("latin-1")
        if self._local and not self._may_ask(origin, host):
            return ForbiddenError(f"Pages of {origin!r} may not ask this server (allowed_origins).")
        return None

    def _names_us(self, host: str) -> bool:
        if ANY in self._allowed_hosts or host in self._allowed_hosts:
            return True
        return _is_local(host) if self._local else not self._allowed_hosts

    def _may_ask(self, origin: str, host: str) -> bool:
        if origin != OPAQUE and not origin.lower().startswith(("http://", "https://")):
            return True  # no page, or a program's own: app:, file:, tauri:
        if is_allowed(origin, self._allowed_origins):
            return True
        name = _name_in(urlsplit(origin).netloc)
        return origin != OPAQUE and (name == host or _is_local(name))


def guarded(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The app, with the guard before it if the settings call for it."""
    local = settings.uds is None and is_for_this_machine(settings)
    if not local and not settings.allowed_hosts:
        return app
    hosts, origins = settings.allowed_hosts, settings.allowed_origins
    return BrowserGuard(app, local=local, allowed_hosts=hosts, allowed_origins=origins)


def _name_in(host: str) -> str:
    """Of a Host header or a URL's place: the name, without the port, in lower case."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def _is_local(name: str) -> bool:
    """As Ollama has it: no name at all, this machine's, one that no public DNS has, an address that is not public."""
    if name in ("", "localhost", socket.gethostname().lower()) or name.endswith(LOCAL_NAME_ENDINGS):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified
