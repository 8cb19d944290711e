"""The ASGI application: the routes of all dialects behind one stack of middlewares, and the pool's life.

Owns no state: the pool is handed in. Everything a request passes on its way in is listed here, in order.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from pagemill.api import anthropic, embeddings, ollama, openai, openapi, operations, ui
from pagemill.api.context import ApiContext
from pagemill.api.errors import ErrorMiddleware, reraise
from pagemill.api.middleware import AuthenticationMiddleware, BodyLimitMiddleware, RequestMiddleware
from pagemill.errors import SettingsError
from pagemill.pool import ModelPool
from pagemill.settings import Settings

if TYPE_CHECKING:
    from pagemill.api.request_limits import RequestLimits
    from pagemill.api.tracing import Tracing
    from pagemill.store.registry.quantizing import Quantizer

EXPOSED_HEADERS = (  # to pages of other origins
    "x-request-id",
    "request-id",
    "retry-after",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)


def create_app(
    pool: ModelPool, settings: Settings, make_quantizer: "Callable[[], Quantizer] | None" = None
) -> Starlette:
    """The application. Its lifespan starts the pool, and at shutdown drains and closes it. `make_quantizer` is called
    when the first request comes that changes models.

    Raises:
        SettingsError: the `api_key_file` can't be used, or what `otlp_traces_endpoint` needs is not installed.
    """
    context = ApiContext(pool, settings, _request_limits(settings), _tracing(settings), make_quantizer)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await pool.start()
        try:
            yield
            await pool.drain(settings.drain_timeout_s)
        finally:
            await pool.close()
            if context.tracing is not None:
                await context.tracing.close()

    return Starlette(
        routes=[
            *operations.routes(context),
            *anthropic.routes(context),  # before OpenAI's: they share the path of the models
            *openai.routes(context),
            *embeddings.routes(context),
            *ollama.routes(context),
            *ui.routes(context),
            *openapi.routes(context),
        ],
        middleware=_middleware(context),
        exception_handlers={HTTPException: reraise},
        lifespan=lifespan,
    )


def _middleware(context: ApiContext) -> list[Middleware]:
    """What a request passes, the outermost first. What is not set is neither there nor imported."""
    settings = context.settings
    passed = [Middleware(RequestMiddleware)]
    if context.tracing is not None:
        from pagemill.api.tracing import TracingMiddleware

        passed.append(Middleware(TracingMiddleware, tracing=context.tracing))
    if settings.allowed_origins:
        passed.append(_cors(settings))  # a preflight carries no key, and errors must be readable too
    passed.append(Middleware(ErrorMiddleware))
    if settings.needs_key:
        from pagemill.api.api_keys import ApiKeys

        keys = ApiKeys(settings.api_key, settings.api_key_file)
        passed.append(Middleware(AuthenticationMiddleware, keys=keys))
    if context.limits is not None:
        from pagemill.api.request_limits import RequestLimitMiddleware

        passed.append(Middleware(RequestLimitMiddleware, limits=context.limits))
    passed.append(
        Middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes, max_blob_bytes=settings.max_blob_bytes)
    )
    return passed


def _cors(settings: Settings) -> Middleware:
    from starlette.middleware.cors import CORSMiddleware

    from pagemill.api.origins import as_pattern

    return Middleware(
        CORSMiddleware,
        allow_origin_regex=as_pattern(settings.allowed_origins),
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
    )


def _request_limits(settings: Settings) -> "RequestLimits | None":
    if not settings.max_requests_per_minute and not settings.max_concurrent_requests:
        return None
    from pagemill.api.request_limits import RequestLimits

    return RequestLimits(
        settings.max_requests_per_minute,
        settings.max_concurrent_requests,
        retry_after_s=settings.retry_after_s,
    )


def _tracing(settings: Settings) -> "Tracing | None":
    if settings.otlp_traces_endpoint is None:
        return None
    try:
        from pagemill.api.tracing import Tracing, exporter_to
    except ImportError as error:
        raise SettingsError(
            f"otlp_traces_endpoint needs OpenTelemetry: pip install 'pagemill[otel]' ({error})"
        ) from error
    return Tracing(exporter_to(settings.otlp_traces_endpoint))
