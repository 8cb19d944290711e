"""Whatever bytes come: the server answers, goes on, and keeps nothing of it."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagemill.api.anthropic.requests import CountTokensRequest, MessagesRequest
from pagemill.api.embeddings.requests import EmbeddingRequest, RerankRequest, ScoreRequest
from pagemill.api.ollama.embed import EmbeddingsRequest, EmbedRequest
from pagemill.api.ollama.requests import ChatRequest, GenerateRequest, ShowRequest
from pagemill.api.openai.chat_request import ChatCompletionRequest
from pagemill.api.openai.completion_request import CompletionRequest
from pagemill.api.openai.invocation import Invocation
from pagemill.api.openai.responses.request import ResponsesRequest
from pagemill.api.operations.tokenization import DetokenizeRequest, TokenizeRequest
from pagemill.backends.fake import FakeBackend
from pagemill.validated import Validated, fields
from support.api_server import RunningServer, assert_idle, running_server

pytestmark = [
    pytest.mark.slow,
    # The server, on a thread of this process, draws request ids while Hypothesis draws examples.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"),
]

BODIES: dict[str, type[Validated]] = {
    "/v1/chat/completions": ChatCompletionRequest,
    "/v1/completions": CompletionRequest,
    "/v1/responses": ResponsesRequest,
    "/v1/messages": MessagesRequest,
    "/v1/messages/count_tokens": CountTokensRequest,
    "/v1/embeddings": EmbeddingRequest,
    "/v1/score": ScoreRequest,
    "/v1/rerank": RerankRequest,
    "/invocations": Invocation,
    "/api/chat": ChatRequest,
    "/api/generate": GenerateRequest,
    "/api/embed": EmbedRequest,
    "/api/embeddings": EmbeddingsRequest,
    "/api/show": ShowRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
}
MEANT = {  # values that get a request further than to its first check
    "model": "fake",
    "messages": [{"role": "user", "content": "hi"}],
    "prompt": "hi",
    "input": "hi",
    "max_tokens": 3,
    "max_output_tokens": 3,
    "stream": True,
    "n": 2,
    "seed": 1,
    "temperature": 0,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "response_format": {"type": "json_object"},
    "format": "json",
    "options": {"num_predict": 3},
    "stop": ["x"],
    "logprobs": True,
    "tokens": [1, 2],
    "text_1": "a",
    "text_2": ["b"],
    "query": "a",
    "documents": ["b"],
}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["", "\u0000", "\ud800", "𝕏", "fake", "auto", "none", "required", "json", "user", "tool"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS: dict[str, list[str]] = {
    path: sorted(fields(body))  # type: ignore[arg-type]  # mypy takes the hash of a class for that of its instances
    for path, body in BODIES.items()
}
NAMED = sorted({name for names in FIELDS.values() for name in names})


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """A route, and a body of fields that it has, with values that it means and others."""
    path = draw(st.sampled_from(sorted(BODIES)))
    own = st.lists(st.sampled_from(FIELDS[path]), max_size=6)
    foreign = st.lists(st.sampled_from(NAMED), max_size=1)
    names = draw(own) + draw(foreign)
    body: dict[str, Any] = {name: value for name, value in MEANT.items() if name in FIELDS[path]}
    for name in names:
        body[name] = draw(VALUES)
    return path, json.dumps(body).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(FakeBackend(max_model_len=128, max_num_seqs=8)) as running:
        yield running


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(requests())
def test_any_fields_are_answered_or_refused_by_name(server: RunningServer, request_: tuple[str, bytes]) -> None:
    path, body = request_
    answer = server.http.post(server.url + path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code < 500, (path, body, answer.text)
    if answer.status_code >= 400:
        assert "error" in answer.json()


BROKEN = [
    b"",
    b"\x00",
    b"\xff\xfe{",
    b"\xef\xbb\xbf{}",
    b"null",
    b"[]",
    b"1e999",
    b"NaN",
    b'{"model": "fake"',
    b'{"prompt": "\xed\xa0\x80"}',
    b'{"prompt": "\\ud800"}',
    b'{"prompt": NaN}',
    b'{"temperature": 1e999, "prompt": "x"}',
    b'{"prompt": "x", "prompt": 1}',
    b'{"messages": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"tools": ' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
    b'{"seed": ' + b"9" * 10_000 + b"}",
    b'{"' + b"x" * 1_000_000 + b'": 1}',
]


@pytest.mark.parametrize("path", sorted(BODIES))
def test_what_is_no_json_is_a_400(server: RunningServer, path: str) -> None:
    for body in BROKEN:
        answer = server.http.post(server.url + path, content=body)
        assert answer.status_code == 400, (path, body[:60], answer.text[:200])
    assert_idle(server)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(requests(), st.integers(0, 400), st.booleans())
def test_connections_cut_at_any_byte_leave_nothing(
    server: RunningServer, request_: tuple[str, bytes], cut: int, reads: bool
) -> None:
    path, body = request_
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall((head + body)[: cut if cut < 300 else None])
        if reads:
            connection.settimeout(0.02)
            try:
                connection.recv(64)
            except TimeoutError:
                return


def test_after_all_that_nothing_is_left(server: RunningServer) -> None:
    assert_idle(server)
    assert httpx.get(server.url + "/readyz").status_code == 200
