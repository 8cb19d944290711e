"""OpenTelemetry traces: a span for each request, in the trace that its client began, sent on to a collector by OTLP.

Owns the exporter and the thread that sends. Imported only if the `otlp_traces_endpoint` setting is given. Attributes
follow the semantic conventions for HTTP and for generative AI; times that those lack have the names of vLLM's spans.
No prompt and no answer is in any of them.
"""

import asyncio
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Receive, Scope, Send

from pagemill import __version__
from pagemill.api.context import Exchange, exchange, route_path
from pagemill.api.middleware import POLLED_PATHS
from pagemill.engine.request_stream import ended_generations
from pagemill.generation import Delta

SERVICE = "pagemill"  # unless OTEL_SERVICE_NAME says another
FIRST_SERVER_ERROR = 500
SEND_GRACE_S = 2.0  # for what is left at the end, if the collector does not answer: exporters try for ten seconds

propagator = TraceContextTextMapPropagator()


class Tracing:
    """Where spans come from and go to. OpenTelemetry's own variables hold for sampling, batches and the resource."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._provider = TracerProvider(resource=_resource())
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer = self._provider.get_tracer(SERVICE, __version__)

    async def close(self) -> None:
        """Send what has not been sent, if the collector takes it within `SEND_GRACE_S`."""
        sending = asyncio.create_task(asyncio.to_thread(self._provider.shutdown))
        _, unsent = await asyncio.wait([sending], timeout=SEND_GRACE_S)
        if unsent:
            await asyncio.to_thread(self._exporter.shutdown)  # ends its tries
        await sending


def exporter_to(endpoint: str) -> SpanExporter:
    """Sends spans to a collector's URL by OTLP over HTTP."""
    return OTLPSpanExporter(endpoint=endpoint)


class TracingMiddleware:
    """Spans every request but the polled ones, from its headers to the last byte of its answer."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self.app = app
        self.tracer = tracing.tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or route_path(scope) in POLLED_PATHS:
            await self.app(scope, receive, send)
            return
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        name = f"{scope['method']} {route_path(scope)}"
        ended: list[Delta] = []
        token = ended_generations.set(ended)
        span = self.tracer.start_span(name, propagator.extract(carrier), SpanKind.SERVER)
        try:
            await self.app(scope, receive, send)
        finally:
            ended_generations.reset(token)
            _describe(span, scope, exchange(scope), ended)
            span.end()


def _resource() -> Resource:
    """What OpenTelemetry's variables say of this process, with a name where they give none."""
    found = Resource.create({SERVICE_VERSION: __version__})
    nameless = str(found.attributes[SERVICE_NAME]).startswith("unknown_service")
    return found.merge(Resource({SERVICE_NAME: SERVICE})) if nameless else found


def _describe(span: Span, scope: Scope, record: Exchange, ended: Sequence[Delta]) -> None:
    span.set_attribute("http.request.method", scope["method"])
    span.set_attribute("url.path", scope["path"])
    span.set_attribute("gen_ai.request.id", record.request_id)
    if record.status is not None:
        span.set_attribute("http.response.status_code", record.status)
    if record.status is None or record.status >= FIRST_SERVER_ERROR:
        span.set_status(Status(StatusCode.ERROR))
    if record.model is not None:
        span.set_attribute("gen_ai.provider.name", SERVICE)
        span.set_attribute("gen_ai.request.model", record.model)
    if ended:
        _describe_generations(span, ended)


def _describe_generations(span: Span, ended: Sequence[Delta]) -> None:
    prompts = [delta.usage for delta in ended if delta.choice_index == 0]
    span.set_attribute("gen_ai.usage.input_tokens", sum(usage.prompt_tokens for usage in prompts))
    span.set_attribute("gen_ai.usage.cache_read.input_tokens", sum(usage.cached_tokens for usage in prompts))
    span.set_attribute("gen_ai.usage.output_tokens", sum(delta.usage.completion_tokens for delta in ended))
    reasons = [delta.finish_reason.value for delta in ended if delta.finish_reason is not None]
    span.set_attribute("gen_ai.response.finish_reasons", reasons)
    times = [delta.timings for delta in ended if delta.timings is not None]
    if times:  # of the slowest, where there are several sequences
        first_token_s = max(time.queue_s + time.prefill_s for time in times)
        span.set_attribute("gen_ai.latency.time_in_queue", max(time.queue_s for time in times))
        span.set_attribute("gen_ai.latency.time_to_first_token", first_token_s)
        span.set_attribute("gen_ai.latency.e2e", max(time.queue_s + time.prefill_s + time.decode_s for time in times))
