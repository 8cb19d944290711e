"""The prompt that a model's files put before each text, against sentence-transformers."""

from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from support.encoder_folders import BERT, POSITIONS, save
from support.model_server import ModelServer, model_server

pytestmark = pytest.mark.slow

PROMPT = "w90 w91 "
TEXTS = ["w1 w2 w3", "w4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("prompted")
    save("Bert", {**BERT, "max_position_embeddings": POSITIONS}, made / "bert")
    modules = [Transformer(str(made / "bert")), Pooling(BERT["hidden_size"], "mean")]
    prompts = {"query": PROMPT, "document": ""}
    model = SentenceTransformer(modules=modules, device="cpu", prompts=prompts, default_prompt_name="query")
    model.save(str(made / "whole"), create_model_card=False)
    return made / "whole"


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ModelServer]:
    flags = ("--port", "0", "--threads", "1", "--dtype", "float32", "--served-model-name", "prompted")
    with model_server(str(folder), *flags) as running:
        yield running


def test_texts_stand_behind_the_default_prompt_and_token_ids_do_not(server: ModelServer, folder: Path) -> None:
    model = SentenceTransformer(str(folder), device="cpu")
    expected = model.encode(TEXTS, normalize_embeddings=True)
    assert numpy.abs(expected - model.encode(TEXTS, prompt="", normalize_embeddings=True)).max() > 0.01
    openai = server.post("/v1/embeddings", {"input": TEXTS}).json()
    assert numpy.abs(numpy.array([item["embedding"] for item in openai["data"]]) - expected).max() < 1e-5
    assert openai["usage"]["prompt_tokens"] == 2 * 4 + 3 + 1  # [CLS] and [SEP], the prompt's two
    ollama = server.post("/api/embed", {"model": "prompted", "input": TEXTS}).json()
    assert numpy.abs(numpy.array(ollama["embeddings"]) - expected).max() < 1e-5
    token_ids = model.tokenizer(TEXTS)["input_ids"]
    bare = server.post("/v1/embeddings", {"input": token_ids}).json()["data"]
    without = model.encode(TEXTS, prompt="", normalize_embeddings=True)
    assert numpy.abs(numpy.array([item["embedding"] for item in bare]) - without).max() < 1e-5


def test_scores_by_cosines_are_those_of_such_vectors(server: ModelServer, folder: Path) -> None:
    one, other = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    answer = server.post("/v1/score", {"text_1": TEXTS[0], "text_2": TEXTS[1]}).json()
    assert answer["data"][0]["score"] == pytest.approx(float(one @ other), abs=1e-5)
