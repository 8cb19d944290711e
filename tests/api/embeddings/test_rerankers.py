"""Scores and rankings by models made for them: a cross-encoder and a decoder that says yes or no, on both backends."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from load_tests.bert_gguf import convert

from support.encoder_folders import BERT, POSITIONS, save, write_reranker
from support.model_server import ModelServer, model_server
from support.tiny_gguf import TinyModel

pytestmark = pytest.mark.slow

QUERY = "w1 w2 w3"
DOCUMENTS = ["w4 w5", "w6 w7 w8 w9 w10 w11", "w40", "w41 w42", "w43"]
TEMPLATE = "<|im_start|>user\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"


def write(kind: str, folder: Path) -> Path:
    if kind == "decoder.gguf":
        model = TinyModel(architecture="qwen3", pooling="rank", classes=("yes", "no"), rerank_template=TEMPLATE)
        return model.write(folder / kind)
    if kind == "Qwen3-Reranker":
        write_reranker(folder / kind, "ForCausalLM")
        return folder / kind
    config = {**BERT, "max_position_embeddings": POSITIONS, "type_vocab_size": 1}
    save("Bert", config, folder, "ForSequenceClassification", num_labels=1)
    return convert(folder, folder / kind) if kind.endswith(".gguf") else folder


@pytest.fixture(scope="module", params=["cross-encoder.gguf", "cross-encoder", "decoder.gguf", "Qwen3-Reranker"])
def reranker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    path = write(request.param, tmp_path_factory.mktemp("reranker"))
    with model_server(str(path), "--port", "0", "--threads", "1", "--served-model-name", "reranker") as server:
        yield server


def scores(reranker: ModelServer, documents: list[str], **fields: Any) -> list[float]:
    answer = reranker.post("/v1/score", {"text_1": QUERY, "text_2": documents, **fields})
    assert answer.status_code == 200, answer.text
    return [item["score"] for item in answer.json()["data"]]


def test_scores_are_probabilities_and_do_not_depend_on_the_order(reranker: ModelServer) -> None:
    found = scores(reranker, DOCUMENTS)
    assert all(0 < score < 1 for score in found)
    assert len(set(found)) == len(found)
    assert scores(reranker, DOCUMENTS[::-1])[::-1] == pytest.approx(found, rel=0.01)
    assert [scores(reranker, [document])[0] for document in DOCUMENTS] == pytest.approx(found, rel=0.01)


def test_documents_are_ranked_by_their_scores(reranker: ModelServer) -> None:
    found = scores(reranker, DOCUMENTS)
    answer = reranker.post("/v1/rerank", {"query": QUERY, "documents": DOCUMENTS, "top_n": 3}).json()
    best = sorted(range(len(DOCUMENTS)), key=lambda index: -found[index])[:3]
    assert [item["index"] for item in answer["results"]] == best
    assert [item["relevance_score"] for item in answer["results"]] == pytest.approx(
        [found[index] for index in best], rel=0.01
    )
    assert answer["usage"]["total_tokens"] > 0


def test_a_document_that_is_too_long_is_cut_if_that_is_asked_for(reranker: ModelServer) -> None:
    long = "w9 " * 2000
    refused = reranker.post("/v1/score", {"text_1": QUERY, "text_2": long})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "text_2"
    once, twice = (scores(reranker, [text], truncate_prompt_tokens=-1) for text in (long, long * 2))
    assert once == twice
    no_room = reranker.post("/v1/score", {"text_1": long, "text_2": "w1", "truncate_prompt_tokens": -1})
    assert no_room.status_code == 400


def test_a_model_for_scores_makes_no_embeddings_and_does_not_chat(reranker: ModelServer) -> None:
    answer = reranker.post("/v1/embeddings", {"input": "w1"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == '"reranker" does not support embeddings'
    chat = {"model": "reranker", "messages": [{"role": "user", "content": "w1"}]}
    assert reranker.post("/api/chat", chat).status_code == 400
