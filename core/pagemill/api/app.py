"""The ASGI application: the routes of all dialects behind one stack of middlewares, and the pool's life.

Owns no state: the pool is handed in. Everything a request passes on its way in is listed here, in order.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from pagemill.api import ollama, openai, operations
from pagemill.api.context import ApiContext
from pagemill.api.errors import ErrorMiddleware, reraise
from pagemill.api.middleware import AuthenticationMiddleware, BodyLimitMiddleware, RequestMiddleware
from pagemill.pool import ModelPool
from pagemill.settings import Settings


def create_app(pool: ModelPool, settings: Settings) -> Starlette:
    """The application. Its lifespan starts the pool, and at shutdown drains and closes it."""
    context = ApiContext(pool, settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await pool.start()
        try:
            yield
            await pool.drain(settings.drain_timeout_s)
        finally:
            await pool.close()

    return Starlette(
        routes=[*operations.routes(context), *openai.routes(context), *ollama.routes(context)],
        middleware=[
            Middleware(RequestMiddleware),
            Middleware(ErrorMiddleware),
            Middleware(AuthenticationMiddleware, keys=settings.api_key),
            Middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes),
        ],
        exception_handlers={HTTPException: reraise},
        lifespan=lifespan,
    )
