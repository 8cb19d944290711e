"""Real answers are as the document says, in all dialects: with tools, thoughts and logprobs, streamed and not, and
errors. Those of embedding models are held to it beside their own tests.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from pagemill.api.openapi.document import documented
from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, running_server
from support.chat_scripts import THINKING_TEMPLATE, told
from support.fake_registry import FakeRegistry, fake_registry
from support.openapi import DocumentedAnswers
from support.registry_models import digest_of

SCRIPT = 'Hm, a tool.</think>Wait.<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
SAID = [{"role": "user", "content": SCRIPT}]
CALLED = {"type": "function", "name": "f", "description": "F", "parameters": {"type": "object"}}
TOOLS = {"tools": [{"type": "function", "function": {key: CALLED[key] for key in ("name", "description")}}]}
LOGPROBS = {"logprobs": True, "top_logprobs": 2}
USAGE = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
MODEL, MESSAGES = {"model": "fake"}, {"messages": SAID}
ANTHROPIC = {"anthropic-version": "2023-06-01"}
CLAUDE = {
    **MODEL,
    **MESSAGES,
    "max_tokens": 200,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "tools": [{"name": "f", "input_schema": {"type": "object"}}],
}
RESPONSE = {"input": SCRIPT, "tools": [CALLED]}
INCLUDED = {"include": ["message.output_text.logprobs", "reasoning.encrypted_content"], "top_logprobs": 1}
TEXT = {"prompt": "abc", "max_tokens": 3}
FIXED = {"prompt": "x", "max_tokens": 3, "logprobs": 2, "echo": True, "return_token_ids": True}
BLOB = b"".join([b"GGUF", bytes(60)])
OLLAMA_CHAT = {**MODEL, **MESSAGES, **TOOLS, "think": True, **LOGPROBS}
GENERATE = {**MODEL, "prompt": "Hm.</think>Well.", "think": True, **LOGPROBS}


class Case(NamedTuple):
    """A request, the route that it is for, and what comes of it."""

    route: str
    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = {}
    path: str | None = None  # if it is not the route's own


CASES = [
    *(Case(f"GET {path}") for path in ("/livez", "/readyz", "/health", "/ping", "/version", "/load", "/metrics", "/")),
    Case("GET /metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}),
    Case("POST /ping"),
    Case("GET /openapi.json"),
    Case("POST /tokenize", {"prompt": "abc", "return_token_strs": True}),
    Case("POST /tokenize", MESSAGES),
    Case("POST /tokenize", {}, 400),
    Case("POST /detokenize", {"tokens": [65, 66]}),
    Case("POST /detokenize", {"tokens": [65], "model": "nonesuch"}, 404),
    Case("GET /ui", status=307),
    Case("GET /ui/"),
    *(Case("GET /ui/{name}", path=f"/ui/{name}") for name in ("index.html", "style.css", "app.js", "icon.svg")),
    Case("GET /ui/{name}", path="/ui/nonesuch", status=404),
    Case("GET /v1/models"),
    Case("GET /v1/models", headers=ANTHROPIC),
    Case("GET /v1/models", path="/v1/models?limit=x", headers=ANTHROPIC, status=400),
    Case("GET /v1/models/{model:path}", path="/v1/models/fake"),
    Case("GET /v1/models/{model:path}", path="/v1/models/fake", headers=ANTHROPIC),
    Case("GET /v1/models/{model:path}", path="/v1/models/none/such", status=404),
    Case("GET /v1/models/{model:path}", path="/v1/models/none/such", headers=ANTHROPIC, status=404),
    *(
        Case("POST /v1/chat/completions", {**MESSAGES, **rest})
        for rest in (
            {},
            TOOLS,
            {**TOOLS, **LOGPROBS, "n": 2, "prompt_logprobs": 1, "return_token_ids": True},
            {**TOOLS, **LOGPROBS, **USAGE, "n": 2, "return_token_ids": True},
            {**TOOLS, "stream": True},
            {"max_tokens": 2, "stream": True, "stream_options": {"include_usage": True}},
        )
    ),
    Case("POST /v1/chat/completions", {**MESSAGES, "top_p": 7}, 400),
    Case("POST /v1/completions", TEXT),
    Case("POST /v1/completions", {**TEXT, "prompt": ["abc", [1, 2]], "stream": True, "stop": "x"}),
    Case("POST /v1/completions", {**FIXED, "prompt_logprobs": 1, "n": 2}),
    Case("POST /v1/completions", {**FIXED, **USAGE}),
    Case("POST /v1/completions", {}, 400),
    Case("POST /invocations", MESSAGES),
    Case("POST /invocations", {**TEXT, "stream": True}),
    Case("POST /invocations", {**TEXT, "model": "nonesuch"}, 404),
    *(
        Case("POST /v1/responses", {**RESPONSE, **rest, **stream})
        for rest in ({}, {**INCLUDED, "reasoning": {"summary": "auto"}}, {**INCLUDED, "max_output_tokens": 4})
        for stream in ({}, {"stream": True})
    ),
    Case("POST /v1/responses", {"input": "x", "background": True}, 400),
    *(
        Case("POST /v1/messages", {**CLAUDE, **rest})
        for rest in ({"max_tokens": 2000}, {"max_tokens": 2000, "stream": True})
    ),
    Case("POST /v1/messages", {**MODEL, "max_tokens": 2, "stream": True, **MESSAGES}),
    Case("POST /v1/messages", {**MODEL, **MESSAGES}, 400),
    Case("POST /v1/messages", {**CLAUDE, "max_tokens": 2000, "thread": {}}, 400),
    Case("POST /v1/messages/count_tokens", {**MODEL, **MESSAGES}),
    Case("POST /v1/messages/count_tokens", {**MESSAGES, "model": "nonesuch"}, 404),
    *(Case(f"GET /api/{name}") for name in ("version", "tags", "ps")),
    Case("POST /api/show", {**MODEL, "verbose": True}),
    Case("POST /api/show", {"model": "nonesuch"}, 404),
    *(Case("POST /api/chat", {**OLLAMA_CHAT, "stream": stream}) for stream in (True, False)),
    Case("POST /api/chat", {**MODEL, "messages": []}),
    Case("POST /api/chat", {**OLLAMA_CHAT, "shift": True}),
    Case("POST /api/chat", {**MODEL, **MESSAGES, "shift": "far"}, 400),
    *(Case("POST /api/generate", {**GENERATE, "stream": stream}) for stream in (True, False)),
    Case("POST /api/generate", {**MODEL, "prompt": "x", "raw": True, "options": {"num_predict": 2}}),
    Case("POST /api/generate", {"prompt": "x"}, 400),
    *(Case(f"POST {path}", {**MODEL, "input": "x"}, 400) for path in ("/v1/embeddings", "/api/embed")),
    Case("POST /api/embeddings", {**MODEL, "prompt": "x"}, 400),
    Case("POST /api/push", {}, 501),
    *(Case("POST /api/blobs/{digest}", BLOB, status, path=f"/api/blobs/{digest_of(BLOB)}") for status in (201, 200)),
    Case("POST /api/blobs/{digest}", BLOB, 400, path=f"/api/blobs/{digest_of(b'else')}"),
    Case("HEAD /api/blobs/{digest}", path=f"/api/blobs/{digest_of(BLOB)}"),
    Case("HEAD /api/blobs/{digest}", status=404, path=f"/api/blobs/{digest_of(b'')}"),
    Case("POST /api/create", {"model": "made", "files": {"a.gguf": digest_of(BLOB)}}),
    Case("POST /api/create", {"model": "copy", "from": "made", "stream": False}),
    Case("POST /api/create", {"model": "copy", "from": "made", "system": "Be brief.", "parameters": {"top_k": 3}}),
    Case("POST /api/create", {"model": "copy", "adapters": {}}, 400),
    Case("POST /api/copy", {"source": "made", "destination": "other"}),
    Case("POST /api/copy", {"source": "nonesuch", "destination": "other"}, 404),
    Case("DELETE /api/delete", {"model": "other"}),
    Case("DELETE /api/delete", {"model": "other"}, 404),
]
ELSEWHERE = {  # with a registry (below), or with an embedding model (tests/api/embeddings)
    "POST /api/pull",
    *("POST /v1/embeddings", "POST /v1/score", "POST /score", "POST /v1/rerank", "POST /rerank"),
    *("POST /api/embed", "POST /api/embeddings"),
}


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as running:
        yield running


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose model says what it is told, thinks and calls tools."""
    folder = tmp_path_factory.mktemp("models")
    backend = FakeBackend(reply=told, chat_template=THINKING_TEMPLATE)
    with running_server(backend, models_dir=str(folder), manage_models=True, registries=("*",)) as running:
        yield running


@pytest.fixture(scope="module")
def documented_answers(thinker: RunningServer) -> DocumentedAnswers:
    return DocumentedAnswers(thinker.get("/openapi.json").json())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.route} {case.status}")
def test_answers_are_as_documented(thinker: RunningServer, documented_answers: DocumentedAnswers, case: Case) -> None:
    method, _, path = case.route.partition(" ")
    content = (
        {"content": case.body} if isinstance(case.body, bytes) else {} if case.body is None else {"json": case.body}
    )
    url = thinker.url + (case.path or path)
    answer = thinker.http.request(method, url, headers=case.headers, **content)
    assert answer.status_code == case.status, answer.text
    documented_answers.check(case.route, answer)


def test_all_operations_have_a_case() -> None:
    missing = sorted(
        set(documented()) - {case.route for case in CASES if case.status < 400 or "push" in case.route} - ELSEWHERE
    )
    assert not missing, f"{missing}: documented without a case here that asks for it"


@pytest.mark.parametrize("stream", [True, False])
def test_pulls_are_as_documented(
    thinker: RunningServer, documented_answers: DocumentedAnswers, registry: FakeRegistry, *, stream: bool
) -> None:
    name = f"pulled{stream:d}"
    registry.put(BLOB, name)
    body = {"model": registry.name(name), "insecure": True, "stream": stream}
    answer = thinker.post("/api/pull", body)
    assert answer.status_code == 200, answer.text
    documented_answers.check("POST /api/pull", answer)


def test_examples_of_the_document_work(thinker: RunningServer, documented_answers: DocumentedAnswers) -> None:
    for key, (_dialect, operation) in documented().items():
        if operation.example is None or key in ELSEWHERE or "/api/" in key:
            continue
        method, _, path = key.partition(" ")
        example = {**operation.example, **({"model": "fake"} if "model" in operation.example else {})}
        assert thinker.http.request(method, thinker.url + path, json=example).status_code == 200, key
