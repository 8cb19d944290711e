"""Real answers of an embedding model are as the OpenAPI document says."""

from typing import Any

import httpx

from support.openapi import DocumentedAnswers
from support.served_process import ServedProcess

PAIR = {"text_1": "a", "text_2": ["b", "c"]}
RANKED = {"query": "a", "documents": ["b", {"text": "c"}]}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/embeddings", {"input": ["a", "b"]}),
    ("/v1/embeddings", {"input": [5, 6], "encoding_format": "base64"}),
    ("/v1/score", PAIR),
    ("/score", PAIR),
    ("/v1/rerank", RANKED),
    ("/rerank", {**RANKED, "top_n": 1, "return_documents": False}),
    ("/api/embed", {"model": "minilm", "input": ["a", "b"]}),
    ("/api/embed", {"model": "minilm", "input": ""}),
    ("/api/embeddings", {"model": "minilm", "prompt": "a"}),
    ("/api/show", {"model": "minilm"}),
]


def test_answers_are_as_documented(minilm: ServedProcess) -> None:
    judge = DocumentedAnswers(httpx.get(f"{minilm.address}/openapi.json").json())
    for path, body in CASES:
        answer = httpx.post(minilm.address + path, json=body)
        assert answer.status_code == 200, answer.text
        judge.check(f"POST {path}", answer)
    for path in ("/api/tags", "/api/ps", "/v1/models"):
        judge.check(f"GET {path}", httpx.get(minilm.address + path))
