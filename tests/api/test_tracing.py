"""Spans of requests, as a collector receives them by OTLP over HTTP."""

import asyncio
import builtins
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from pagemill.api import tracing
from pagemill.api.app import create_app
from pagemill.backends.fake import FakeBackend
from pagemill.errors import SettingsError
from pagemill.pool import ModelPool
from pagemill.settings import Settings
from pagemill.store.catalog import Catalog
from support.api_server import fake_reference, running_server

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Collector(ThreadingHTTPServer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.exports: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def spans(self) -> list[Any]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.exports]
        scopes = [scope for sent in requests for item in sent.resource_spans for scope in item.scope_spans]
        return [span for scope in scopes for span in scope.spans]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        self.server.exports.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Nothing: a test that fails says why by itself."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def attributes(span: Any) -> dict[str, Any]:
    found = {}
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        found[pair.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found


def trace(collector: Collector, path: str, body: dict[str, Any], backend: FakeBackend | None = None) -> Any:
    """The span of one request to a server that is stopped after it, which sends what is left."""
    with running_server(backend, otlp_traces_endpoint=collector.url) as server:
        server.post(path, body, headers={"traceparent": TRACEPARENT, "x-request-id": "r-1"})
        server.get("/readyz")
    (span,) = collector.spans()
    return span


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_is_a_span_in_its_clients_trace_with_its_usage_and_times(collector: Collector, stream: bool) -> None:
    body = {"messages": [{"role": "user", "content": "swordfish"}], "max_tokens": 5, "n": 2, "stream": stream}
    span = trace(collector, "/v1/chat/completions", body)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.name == "POST /v1/chat/completions"
    found = attributes(span)
    assert found["http.response.status_code"] == 200
    assert found["gen_ai.request.id"] == "r-1"
    assert found["gen_ai.request.model"] == "fake"
    assert found["gen_ai.usage.output_tokens"] == 10
    assert found["gen_ai.usage.input_tokens"] > len("swordfish")
    assert found["gen_ai.response.finish_reasons"] == ["length", "length"]
    assert 0 <= found["gen_ai.latency.time_in_queue"] <= found["gen_ai.latency.time_to_first_token"]
    assert found["gen_ai.latency.time_to_first_token"] <= found["gen_ai.latency.e2e"]
    assert b"swordfish" not in b"".join(collector.exports)


def test_ollamas_dialect_is_traced_alike(collector: Collector) -> None:
    found = attributes(
        trace(collector, "/api/generate", {"model": "fake", "prompt": "x", "options": {"num_predict": 3}})
    )
    assert found["gen_ai.usage.output_tokens"] == 3


def test_a_refused_request_is_a_span_without_usage(collector: Collector) -> None:
    span = trace(collector, "/v1/chat/completions", {"messages": []})
    found = attributes(span)
    assert found["http.response.status_code"] == 400
    assert "gen_ai.usage.output_tokens" not in found
    assert span.status.code == 0


def test_a_failed_request_is_a_span_with_an_error(collector: Collector) -> None:
    backend = FakeBackend(fail_on=lambda plan: "broken" if plan.chunks else None)
    assert trace(collector, "/v1/completions", {"prompt": "x"}, backend).status.code == 2


def test_a_collector_that_is_gone_spoils_no_request() -> None:
    with running_server(otlp_traces_endpoint="http://127.0.0.1:9/v1/traces") as server:
        assert server.post("/v1/completions", {"prompt": "x", "max_tokens": 1}).status_code == 200


def test_without_the_extra_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("pagemill.api.tracing"):
            raise ImportError("No module named 'opentelemetry'")
        return original(name, *args, **options)

    async def load(reference: object, need: object) -> Any:
        raise NotImplementedError

    monkeypatch.setattr(builtins, "__import__", without)
    pool = ModelPool(Catalog([fake_reference()]), load, keep_alive_s=-1)
    with pytest.raises(SettingsError, match=r"pagemill\[otel\]"):
        create_app(pool, Settings(otlp_traces_endpoint="http://127.0.0.1:1/v1/traces"))


class StuckExporter(SpanExporter):
    """Tries to send until it is told to end."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.ended.wait()
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.ended.set()


async def test_a_collector_that_does_not_answer_holds_no_shutdown_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "SEND_GRACE_S", 0.05)
    exporter = StuckExporter()
    stuck = tracing.Tracing(exporter)
    stuck.tracer.start_span("request").end()
    async with asyncio.timeout(20):  # the processor itself would wait for thirty
        await stuck.close()
    assert exporter.ended.is_set()
