"""From an exception to the error that a client sees: the one place where that happens.

Owns no state. Routes and middlewares raise; `ErrorMiddleware` (and, once a stream has begun, the stream's own
rendering) calls `translate` and picks the dialect's shape by the path. Unknown exceptions are logged with their
traceback and shown as a bare 500: nothing of the inside leaks.
"""

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pagemill.api.context import exchange, is_anthropic, route_path
from pagemill.errors import (
    AuthenticationError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    PagemillError,
    PayloadTooLargeError,
    QueueFullError,
    ThreadUnsupportedError,
    UnavailableError,
)

logger = logging.getLogger(__name__)

ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
CLIENT_CLOSED_REQUEST = 499  # nginx's number, for the access log only: nobody is there to read a status


def translate(error: BaseException, scope: Scope) -> PagemillError:
    """The error as one of ours. Logs an unknown exception, with its traceback and the request id."""
    if isinstance(error, PagemillError):
        return error
    if isinstance(error, HTTPException):
        return _from_http_exception(error, scope)
    request_id = exchange(scope).request_id
    logger.error("request %s failed", request_id, exc_info=error)
    return PagemillError(f"Internal server error; the log has the details under request id {request_id}.")


def _from_http_exception(error: HTTPException, scope: Scope) -> PagemillError:
    path = route_path(scope)
    match error.status_code:
        case 404:
            return NotFoundError(f"There is no {path} here.")
        case 405:
            return MethodNotAllowedError(f"{path} does not take {scope['method']}.")
        case status if status < 500:
            return InvalidRequestError(error.detail)
        case _:
            return PagemillError(error.detail)


def openai_error(error: PagemillError) -> dict[str, Any]:
    """The body of an error in the OpenAI dialect."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def ollama_error(error: PagemillError) -> dict[str, Any]:
    """The body of an error in the Ollama dialect."""
    if isinstance(error, QueueFullError):  # Ollama's own words, which its clients look for
        return {"error": "server busy, please try again.  maximum pending requests exceeded"}
    return {"error": error.message}


def anthropic_error(error: PagemillError, request_id: str) -> dict[str, Any]:
    """The body of an error in the Anthropic dialect, which is also the event that ends a stream."""
    kind = ANTHROPIC_TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    body: dict[str, Any] = {"type": kind, "message": error.message}
    if isinstance(error, ThreadUnsupportedError):
        body["details"] = {"error_code": error.code}
    return {"type": "error", "error": body, "request_id": request_id}


def error_body(error: PagemillError, scope: Scope) -> dict[str, Any]:
    """The error in the shape of the dialect that owns this path."""
    path = route_path(scope)
    if path == "/api" or path.startswith("/api/"):
        return ollama_error(error)
    return anthropic_error(error, exchange(scope).request_id) if is_anthropic(scope) else openai_error(error)


def error_response(error: BaseException, scope: Scope) -> Response:
    """The whole answer to a request that failed before its response started."""
    ours = translate(error, scope)
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)  # Allow, of a 405
    if isinstance(ours, UnavailableError):
        headers["retry-after"] = str(ours.retry_after_s)
    elif isinstance(ours, AuthenticationError):
        headers["www-authenticate"] = "Bearer"
    elif isinstance(ours, PayloadTooLargeError):
        headers["connection"] = "close"  # the rest of the body is not going to be read
    return JSONResponse(error_body(ours, scope), status_code=ours.status, headers=headers)


async def reraise(request: object, error: Exception) -> Response:
    """Keeps Starlette from answering an HTTPException itself: the error middleware answers all errors."""
    raise error


class ErrorMiddleware:
    """Answers every exception of the app below it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        except ClientDisconnect:
            logger.debug("request %s: the client went away", exchange(scope).request_id)
            exchange(scope).status = CLIENT_CLOSED_REQUEST
        except Exception as error:
            if exchange(scope).status is not None:
                raise  # too late for a status; the server closes the connection
            await error_response(error, scope)(scope, receive, send)
