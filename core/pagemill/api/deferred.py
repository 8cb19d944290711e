"""Endpoints that are imported when first asked for: a dialect's wire models are a good part of a cold start."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.types import ASGIApp

Endpoint = Callable[[Request], Awaitable[ASGIApp]]


def deferred(load: Callable[[], Endpoint]) -> Endpoint:
    """An endpoint that is what `load` gives. It is called at each request, and imports at the first."""

    async def endpoint(request: Request) -> ASGIApp:
        return await load()(request)

    return endpoint
