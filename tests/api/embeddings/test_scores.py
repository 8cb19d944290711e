"""Scores and rankings, by the cosines of a real embedding model."""

from typing import Any

import httpx
import pytest

from support.sentence_model import SENTENCES, reference
from support.served_process import ServedProcess

pytestmark = pytest.mark.slow

FOOD, BREAD, GIRL, CHEETAH = SENTENCES[:4]


def post(minilm: ServedProcess, path: str, **body: Any) -> httpx.Response:
    return httpx.post(minilm.address + path, json={"model": "minilm", **body}, timeout=60)


@pytest.mark.parametrize("path", ["/v1/score", "/score"])
def test_scores_are_the_cosines_of_the_embeddings(minilm: ServedProcess, path: str) -> None:
    rows = reference(SENTENCES)
    answer = post(minilm, path, text_1=FOOD, text_2=[BREAD, GIRL, FOOD]).json()
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]
    expected = [float(rows[0] @ rows[1]), float(rows[0] @ rows[2]), 1.0]
    assert [item["score"] for item in answer["data"]] == pytest.approx(expected, abs=2e-3)
    assert answer["usage"]["total_tokens"] > 20


def test_lists_of_one_length_are_scored_pair_by_pair(minilm: ServedProcess) -> None:
    answer = post(minilm, "/v1/score", text_1=[FOOD, GIRL], text_2=[FOOD, GIRL]).json()
    assert [item["score"] for item in answer["data"]] == pytest.approx([1, 1], abs=1e-4)


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
def test_documents_come_in_order_of_relevance(minilm: ServedProcess, path: str) -> None:
    documents = [CHEETAH, {"text": BREAD}, GIRL]
    answer = post(minilm, path, query=FOOD, documents=documents).json()
    assert answer["results"][0]["index"] == 1
    assert answer["results"][0]["document"] == {"text": BREAD}
    relevance = [item["relevance_score"] for item in answer["results"]]
    assert relevance == sorted(relevance, reverse=True)
    assert sorted(item["index"] for item in answer["results"]) == [0, 1, 2]
    first = post(minilm, path, query=FOOD, documents=documents, top_n=1, return_documents=False).json()["results"]
    assert first == [{"index": 1, "relevance_score": pytest.approx(relevance[0])}]


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/score", {"text_1": "x"}, "text_2"),
        ("/v1/score", {"text_1": ["x", "y"], "text_2": ["x", "y", "z"]}, "text_1"),
        ("/v1/score", {"text_1": "", "text_2": "x"}, "text_1"),
        ("/v1/score", {"text_1": "x", "text_2": [1]}, "text_2"),
        ("/v1/score", {"text_1": "x", "text_2": "word " * 1000}, "text_2"),
        ("/v1/rerank", {"query": "", "documents": ["x"]}, "query"),
        ("/v1/rerank", {"query": "x", "documents": []}, "documents"),
        ("/v1/rerank", {"query": "x", "documents": ["x", {"title": "y"}]}, "documents"),
        ("/v1/rerank", {"query": "x", "documents": ["x"], "top_n": -1}, "top_n"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_can_not_be_scored_is_a_400_that_names_the_field(
    minilm: ServedProcess, path: str, fields: dict[str, Any], param: str
) -> None:
    answer = post(minilm, path, **fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
