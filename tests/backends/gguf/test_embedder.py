"""Pooled decoders, cross-encoders and rerankers on llama.cpp against transformers with the same random weights."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from load_tests.bert_gguf import convert
from torch import Tensor

from pagemill.backends.embedder import EmbeddingInput
from pagemill.backends.gguf.embedder import GGUFEmbedder
from pagemill.backends.gguf.loading import load_gguf
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.errors import ModelLoadError
from support.encoder_folders import BERT, POSITIONS, save
from support.qwen3_twin import Qwen3Twin
from support.roberta_gguf import roberta_gguf, save_roberta
from support.tiny_gguf import TinyModel

WriteModel = Callable[[TinyModel], Path]
Load = Callable[..., GGUFEmbedder]

QWEN = TinyModel(architecture="qwen3", ends_texts=True)
TEMPLATE = '<|im_start|>user\nIs it "yes" or "no"?\n<Query>: {query}\n<Document>: {document}<|im_end|>\n'
RERANKER = TinyModel(architecture="qwen3", pooling="rank", classes=("yes", "no"), rerank_template=TEMPLATE)
LENGTHS = (1, 7, 30, 7, 100, 2)
POOLED: dict[str, Callable[[Tensor], Tensor]] = {
    "last": lambda states: states[-1],
    "mean": lambda states: states.mean(0),
    "cls": lambda states: states[0],
}


@pytest.fixture
def load() -> Iterator[Load]:
    """Loads an embedder with these options; closes it afterwards."""
    loaded: list[GGUFEmbedder] = []

    def load_one(path: Path, **options: Any) -> GGUFEmbedder:
        embedder = load_gguf(path, GGUFOptions(threads=1, **{"max_num_batched_tokens": 256, **options}))
        assert isinstance(embedder, GGUFEmbedder)
        loaded.append(embedder)
        return embedder

    yield load_one
    for embedder in loaded:
        embedder.close()


def inputs(vocab_size: int) -> list[EmbeddingInput]:
    generator = numpy.random.default_rng(0)
    return [EmbeddingInput(tuple(map(int, generator.integers(5, vocab_size, length)))) for length in LENGTHS]


def cosine(one: Any, other: Any) -> float:
    one, other = (numpy.asarray(vector, numpy.float64) for vector in (one, other))
    return float(one @ other / numpy.linalg.norm(one) / numpy.linalg.norm(other))


@pytest.mark.parametrize("pooling", POOLED)
def test_pooled_decoders_give_transformers_vectors(pooling: Any, write_model: WriteModel, load: Load) -> None:
    model = TinyModel(architecture="qwen3", pooling=pooling)
    path = write_model(model)
    embedder, twin = load(path), Qwen3Twin(model, path)
    given = inputs(embedder.tokenizer.vocab_size)
    assert embedder.task == "embed"
    for vector, item in zip(embedder.embed(given), given, strict=True):
        assert cosine(vector, POOLED[pooling](twin.states(item.token_ids))) > 0.9999


def test_a_decoder_without_a_pooling_type_gives_its_last_state_when_told_to_pool(
    write_model: WriteModel, load: Load
) -> None:
    path = write_model(QWEN)
    embedder, twin = load(path, runner="pooling"), Qwen3Twin(QWEN, path)
    token_ids = tuple(embedder.tokenizer.encode("the hat", add_special=True, parse_special=False))
    assert token_ids[-1:] == embedder.surroundings.after  # as Qwen3-Embedding's files ask for
    assert cosine(embedder.embed([EmbeddingInput(token_ids)])[0], twin.states(token_ids)[-1]) > 0.9999
    assert embedder.surroundings.cut(token_ids, 3) == (*token_ids[:2], token_ids[-1])


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_vector_does_not_depend_on_its_place_or_its_neighbours(
    pooling: Any, write_model: WriteModel, load: Load
) -> None:
    embedder = load(write_model(TinyModel(architecture="qwen3", pooling=pooling)))
    given = inputs(embedder.tokenizer.vocab_size)
    together, backwards = embedder.embed(given), embedder.embed(given[::-1])[::-1]
    alone = [embedder.embed([item])[0] for item in given]
    for vectors in zip(together, backwards, alone, strict=True):
        assert min(cosine(vectors[0], other) for other in vectors[1:]) > 0.99999


def test_a_long_text_is_pooled_by_its_last_token_over_several_passes(write_model: WriteModel, load: Load) -> None:
    model = TinyModel(architecture="qwen3", pooling="last")
    path = write_model(model)
    embedder, twin = load(path), Qwen3Twin(model, path)
    long = EmbeddingInput(tuple(index % 250 for index in range(model.context_length)))
    assert embedder.max_model_len == model.context_length > 512  # what one pass takes
    assert cosine(embedder.embed([long])[0], twin.states(long.token_ids)[-1]) > 0.9999


def test_a_reranker_gives_transformers_probability_of_yes(write_model: WriteModel, load: Load) -> None:
    path = write_model(RERANKER)
    embedder, twin = load(path), Qwen3Twin(RERANKER, path)
    assert embedder.task == "score"
    texts = [("the", "hat"), ("a", "in the end"), ("a", "the"), ("zoo", "zebra" * 9), ("zoo", "?")]
    pairs = [pair for pair in (embedder.pairs.encode(*both, None) for both in texts) if pair is not None]
    scores = [vector[0] for vector in embedder.embed(pairs)]
    expected = [twin.probabilities(pair.token_ids)[0] for pair in pairs]
    assert scores == pytest.approx(expected, rel=0.01)
    assert max(scores) > 1.1 * min(scores)


def test_a_rerankers_pair_is_its_template_as_one_text(write_model: WriteModel, load: Load) -> None:
    embedder = load(write_model(RERANKER))
    pair = embedder.pairs.encode("the", "hat", None)
    text = TEMPLATE.format(query="the", document="hat")
    assert pair is not None
    assert list(pair.token_ids) == embedder.tokenizer.encode(text, add_special=False, parse_special=True)


def test_special_tokens_in_a_pairs_texts_are_text(write_model: WriteModel, load: Load) -> None:
    embedder = load(write_model(RERANKER))
    pair = embedder.pairs.encode("<|im_end|>", "<|im_start|>", None)
    assert pair is not None
    assert sum(map(embedder.tokenizer.is_special, pair.token_ids)) == TEMPLATE.count("<|im_")


def test_a_pair_is_cut_at_its_documents_end_and_keeps_the_templates(write_model: WriteModel, load: Load) -> None:
    embedder = load(write_model(RERANKER))
    whole = embedder.pairs.encode("qqq", "x" * 50, None)
    assert whole is not None
    ending = embedder.tokenizer.encode("<|im_end|>\n", add_special=False, parse_special=True)
    cut = embedder.pairs.encode("qqq", "x" * 50, len(whole.token_ids) - 20)
    assert cut is not None
    assert cut.token_ids == (*whole.token_ids[: -20 - len(ending)], *ending)
    assert embedder.pairs.encode("qqq", "x" * 50, len(whole.token_ids) - 50) is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"classes": ("good", "bad", "ugly")}, "tells 3 classes apart"),
        ({"rerank_template": "{document}{query}"}, "no {query} before a {document}"),
        ({"rerank_template": "{query}<|im_end|>{document}"}, "special tokens between the two texts"),
    ],
)
def test_a_reranker_that_can_not_be_served_is_refused_by_name(
    changed: dict[str, Any], reason: str, write_model: WriteModel
) -> None:
    path = write_model(TinyModel(**({"architecture": "qwen3", "pooling": "rank", "classes": ("yes", "no")} | changed)))
    with pytest.raises(ModelLoadError, match=re.escape(reason)):
        load_gguf(path, GGUFOptions(threads=1))


def save_cross_encoder(folder: Path) -> Any:
    config = {**BERT, "max_position_embeddings": POSITIONS}
    return save("Bert", config, folder, "ForSequenceClassification", num_labels=1)


@pytest.mark.parametrize("names_classes", [True, False])
def test_a_cross_encoder_gives_transformers_scores(tmp_path: Path, load: Load, names_classes: bool) -> None:
    """Also one from before llama.cpp's converter named the classes."""
    model = save_cross_encoder(tmp_path)
    embedder = load(convert(tmp_path, tmp_path / "cross-encoder.gguf", names_classes=names_classes))
    assert embedder.task == "score"
    texts = [("w1 w2 w3", "w4 w5"), ("w7", "w8 w9 w10 w11 w12"), ("w1 w2 w3", "w40")]
    pairs = [pair for pair in (embedder.pairs.encode(*both, None) for both in texts) if pair is not None]
    assert pairs[0].token_ids == (2, 6, 7, 8, 3, 9, 10, 3)  # [CLS] first [SEP] second [SEP]
    with torch.inference_mode():  # without types of tokens: llama.cpp has none
        logits = [model(torch.tensor([pair.token_ids])).logits[0, 0] for pair in pairs]
    scores = [vector[0] for vector in embedder.embed(pairs)]
    assert scores == pytest.approx(torch.tensor(logits).sigmoid().tolist(), abs=2e-3)
    assert max(scores) - min(scores) > 0.02


def test_a_cross_encoder_without_its_pooler_is_refused(tmp_path: Path) -> None:
    """As llama.cpp's converter writes BERT's: without it the scores are others."""
    save_cross_encoder(tmp_path)
    path = convert(tmp_path, tmp_path / "cross-encoder.gguf", keeps_pooler=False)
    with pytest.raises(
        ModelLoadError, match=r"lacks the layer before its classes \(cls\.weight\).* serve the model's fold"
    ):
        load_gguf(path, GGUFOptions(threads=1))


def test_a_roberta_takes_pairs_in_its_form_and_gives_transformers_scores(tmp_path: Path, load: Load) -> None:
    model, tokenizer = save_roberta(tmp_path)
    embedder = load(roberta_gguf(tmp_path, tmp_path / "roberta.gguf"))
    assert embedder.task == "score"
    texts = [("the hat", "in a zoo"), ("and", "?"), ("the hat", "zebra zebra zebra")]
    pairs = [pair for pair in (embedder.pairs.encode(*both, None) for both in texts) if pair is not None]
    assert [list(pair.token_ids) for pair in pairs] == [tokenizer(*both)["input_ids"] for both in texts]
    assert pairs[0].token_ids.count(tokenizer.sep_token_id) == 3  # <s> first </s></s> second </s>
    with torch.inference_mode():
        logits = [model(torch.tensor([pair.token_ids])).logits[0, 0] for pair in pairs]
    scores = [vector[0] for vector in embedder.embed(pairs)]
    assert scores == pytest.approx(torch.tensor(logits).sigmoid().tolist(), abs=2e-3)
    assert max(scores) - min(scores) > 0.02
