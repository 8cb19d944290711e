"""Encoders of the BERT family and pooled decoders against transformers, on tiny random models of each architecture."""

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from pagemill.backends.embedder import EmbeddingInput
from pagemill.backends.paged.embedder_loading import load_embedder
from pagemill.backends.paged.options import PagedOptions
from support.encoder_folders import BERT, SIZES, WORDS, save

ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {**BERT, "max_position_embeddings": 64}),
    "roberta": ("Roberta", {**BERT, "max_position_embeddings": 64, "pad_token_id": 1, "type_vocab_size": 1}),
    "xlm-roberta": ("XLMRoberta", {**BERT, "max_position_embeddings": 64, "pad_token_id": 1}),
    "camembert": ("Camembert", {**BERT, "max_position_embeddings": 64, "pad_token_id": 1}),
    "mpnet": ("MPNet", {**BERT, "max_position_embeddings": 64, "pad_token_id": 1}),
    "distilbert": (
        "DistilBert",
        {**SIZES, "dim": 32, "hidden_dim": 64, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 64},
    ),
}
DECODER = {
    **BERT,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 8,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
DECODERS = {"qwen3": ("Qwen3", DECODER), "llama": ("Llama", DECODER), "qwen2": ("Qwen2", DECODER)}
LENGTHS = (1, 7, 30, 7, 62, 2)


def inputs() -> list[tuple[int, ...]]:
    generator = numpy.random.default_rng(0)
    return [tuple(int(token) for token in generator.integers(5, len(WORDS), size=length)) for length in LENGTHS]


def embedded(folder: Path, given: list[tuple[int, ...]], **options: Any) -> list[Any]:
    embedder = load_embedder(folder, PagedOptions(device="cpu", dtype="float32", threads=1, **options))
    try:
        return [numpy.asarray(vector) for vector in embedder.embed([EmbeddingInput(item) for item in given])]
    finally:
        embedder.close()


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_give_transformers_mean(name: str, tmp_path: Path) -> None:
    kind, config = ENCODERS[name]
    model = save(kind, config, tmp_path)
    for ours, token_ids in zip(embedded(tmp_path, inputs()), inputs(), strict=True):
        with torch.inference_mode():
            theirs = model(torch.tensor([token_ids])).last_hidden_state[0].mean(0).numpy()
        assert numpy.abs(ours - theirs).max() < 1e-5 * max(1, numpy.abs(theirs).max())


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_give_transformers_last_state(name: str, tmp_path: Path) -> None:
    kind, config = DECODERS[name]
    model = save(kind, config, tmp_path)
    for ours, token_ids in zip(embedded(tmp_path, inputs(), runner="pooling"), inputs(), strict=True):
        with torch.inference_mode():
            theirs = model(torch.tensor([token_ids])).last_hidden_state[0, -1].numpy()
        assert numpy.abs(ours - theirs).max() < 1e-4 * max(1, numpy.abs(theirs).max())


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_cross_encoders_give_transformers_score(name: str, tmp_path: Path) -> None:
    kind, config = ENCODERS[name]
    model = save(kind, config, tmp_path, "ForSequenceClassification", num_labels=1)
    embedder = load_embedder(tmp_path, PagedOptions(device="cpu", dtype="float32", threads=1))
    pair = embedder.surroundings.pair((5, 6, 7), (8, 9))
    assert pair.token_ids == (2, 5, 6, 7, 3, 8, 9, 3)
    assert pair.second_start == 5
    types = {"token_type_ids": torch.tensor([[0] * 5 + [1] * 3])} if name == "bert" else {}
    with torch.inference_mode():
        theirs = torch.sigmoid(model(torch.tensor([pair.token_ids]), **types).logits[0, 0]).item()
    assert embedder.task == "score"
    assert embedder.embed([pair])[0][0] == pytest.approx(theirs, abs=1e-5)
    embedder.close()
