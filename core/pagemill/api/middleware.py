"""Pure ASGI middlewares: request id and access log, API keys, and the limit on bodies.

Own no state beyond one request. They raise `PagemillError`s, which `ErrorMiddleware` turns into answers; so its place
is below `RequestMiddleware` and above the others. Prompt text is never logged.
"""

import logging
import random
import re
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pagemill.api.context import EXCHANGE_KEY, Exchange, exchange, is_anthropic, route_path
from pagemill.api.wire import shown
from pagemill.errors import AuthenticationError, PayloadTooLargeError

if TYPE_CHECKING:
    from pagemill.api.api_keys import ApiKeys

logger = logging.getLogger(__name__)

PROBE_PATHS = frozenset({"/livez", "/readyz", "/health", "/ping"})
OPEN_PATHS = PROBE_PATHS | {"/"}  # probes carry no key
POLLED_PATHS = OPEN_PATHS | {"/metrics"}  # asked every few seconds: logged only when debugging
BLOB_PATHS = "/api/blobs/"  # what is sent there goes to the disk, not into memory
PAGE_PATH = "/ui"  # and what lies below: files that everybody may see; what they ask for carries keys
SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            assert isinstance(value, bytes)
            return value
    return None


def is_page(path: str) -> bool:
    """Whether a route's path is of the chat page."""
    return path == PAGE_PATH or path.startswith(f"{PAGE_PATH}/")


class RequestMiddleware:
    """Gives each request its `Exchange` and its id, which the response echoes, and logs one line when it has ended."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = Exchange(request_id=_request_id(scope))
        scope[EXCHANGE_KEY] = record

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                request_id = record.request_id.encode("ascii")
                headers = [*message.get("headers", ()), (b"x-request-id", request_id)]
                message["headers"] = [*headers, (b"request-id", request_id)] if is_anthropic(scope) else headers
            await send(message)

        start = time.perf_counter()
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            _log(scope, record, time.perf_counter() - start)


def _request_id(scope: Scope) -> str:
    given = header(scope, b"x-request-id")
    if given is not None:
        text = given.decode("latin-1")
        if SANE_REQUEST_ID.fullmatch(text):
            return text
    return f"{random.getrandbits(128):032x}"  # unique is enough, it is no secret; the system's source costs a GIL turn


def _log(scope: Scope, record: Exchange, duration_s: float) -> None:
    who = (("model", record.model), ("user", record.user and shown(record.user)), ("key", record.key_id))
    logger.log(
        logging.DEBUG if route_path(scope) in POLLED_PATHS else logging.INFO,
        "%s %s %s %.1f ms request_id=%s%s",
        scope["method"],
        quote(scope["path"]),  # a decoded path may hold line breaks
        record.status,
        duration_s * 1000,
        record.request_id,
        "".join(f" {name}={value}" for name, value in who if value is not None),
    )


class AuthenticationMiddleware:
    """Lets only requests with one of the keys pass, but for the probes and the chat page's files."""

    def __init__(self, app: ASGIApp, keys: "ApiKeys") -> None:
        self.app = app
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = route_path(scope)
            if path not in OPEN_PATHS and not is_page(path):
                exchange(scope).key_id = self._identify(scope)
        await self.app(scope, receive, send)

    def _identify(self, scope: Scope) -> str:
        # x-api-key first: it can only be for us, while Authorization may be for a gateway before us.
        given = header(scope, b"x-api-key") or _bearer(scope)
        if not given:
            raise AuthenticationError("API key required: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'.")
        key_id = self.keys.identify(given)
        if key_id is None:
            raise AuthenticationError("Incorrect API key provided.")
        return key_id


def _bearer(scope: Scope) -> bytes | None:
    scheme, _, key = (header(scope, b"authorization") or b"").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else None


class BodyLimitMiddleware:
    """Refuses bodies of more than `max_bytes`: at once by their Content-Length, or while they arrive in chunks. Files
    that are sent to be kept have a limit of their own; 0 is none.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_blob_bytes: int = 0) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_blob_bytes = max_blob_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        max_bytes, setting = self.max_bytes, "max_body_bytes"
        if route_path(scope).startswith(BLOB_PATHS):
            max_bytes, setting = self.max_blob_bytes or sys.maxsize, "max_blob_bytes"
        error = PayloadTooLargeError(f"The request body is larger than {max_bytes} bytes (setting {setting}).")
        length = header(scope, b"content-length")
        if length is None or not length.isdigit():
            receive = _counted(receive, max_bytes, error)
        elif int(length) > max_bytes:
            raise error
        await self.app(scope, receive, send)


def _counted(receive: Receive, max_bytes: int, error: PayloadTooLargeError) -> Receive:
    """Raises the error when more has come."""
    num_bytes = 0

    async def counted() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > max_bytes:
            raise error
        return message

    return counted
