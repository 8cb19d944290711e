"""Encoders through transformers' own definitions, in padded batches, against the same model run on each text alone."""

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from pagemill.backends.embedder import EmbeddingInput
from pagemill.backends.paged.embedder import PagedEmbedder
from pagemill.backends.paged.embedder_loading import load_embedder
from pagemill.backends.paged.loading import load_paged
from pagemill.backends.paged.options import PagedOptions
from pagemill.errors import ModelLoadError
from support.encoder_folders import BERT, POSITIONS, SIZES, WORDS, save

LONG = {**BERT, "max_position_embeddings": POSITIONS}
QWEN3 = {**LONG, "num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 2, "eos_token_id": 3}
T5 = {**SIZES, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "n_positions": POSITIONS}
GEMMA = {
    **LONG,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "use_bidirectional_attention": True,
}
MODERN = {**LONG, "local_attention": 8, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3}
MODERN |= {"bos_token_id": 2, "eos_token_id": 3}
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {  # class, configuration, suffix
    "modernbert": ("ModernBert", MODERN, "ForMaskedLM"),
    "nomic_bert": ("NomicBert", LONG, "Model"),
    "electra": ("Electra", {**LONG, "embedding_size": 16}, "ForMaskedLM"),
    "deberta-v2": ("DebertaV2", {**LONG, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, "ForMaskedLM"),
    "albert": ("Albert", {**LONG, "embedding_size": 16}, "ForMaskedLM"),
    "xlm-roberta-xl": ("XLMRobertaXL", {**LONG, "pad_token_id": 1}, "ForMaskedLM"),
    "eurobert": ("EuroBert", {**LONG, "num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}, "ForMaskedLM"),
    "t5": ("T5", T5, "EncoderModel"),
    "gemma3_text": ("Gemma3Text", GEMMA, "Model"),
}
LENGTHS = (1, 7, 30, 7, 61, 2, 12)


def inputs() -> list[tuple[int, ...]]:
    generator = numpy.random.default_rng(0)
    return [tuple(int(token) for token in generator.integers(5, len(WORDS), size=length)) for length in LENGTHS]


def load(folder: Path, **options: Any) -> PagedEmbedder:
    return load_embedder(folder, PagedOptions(device="cpu", dtype="float32", threads=1, **options))


def last_states(model: Any, token_ids: tuple[int, ...]) -> torch.Tensor:
    with torch.inference_mode():
        states: torch.Tensor = model(torch.tensor([token_ids])).last_hidden_state[0]
    return states


@pytest.mark.parametrize("name", MODELS)
def test_padded_batches_give_the_mean_of_each_text_alone(name: str, tmp_path: Path) -> None:
    kind, config, suffix = MODELS[name]
    model = save(kind, config, tmp_path, suffix)
    embedder = load(tmp_path)
    rows = embedder.embed([EmbeddingInput(item) for item in inputs()])
    for row, token_ids in zip(rows, inputs(), strict=True):
        expected = last_states(model.base_model, token_ids).mean(0).numpy()
        assert numpy.abs(numpy.asarray(row) - expected).max() < 1e-4 * max(1, numpy.abs(expected).max())
    embedder.close()


@pytest.mark.parametrize("name", ["modernbert", "electra", "deberta-v2", "xlm-roberta-xl", "gemma3_text"])
def test_cross_encoders_give_transformers_scores(name: str, tmp_path: Path) -> None:
    kind, config, _ = MODELS[name]
    model = save(kind, config, tmp_path, "ForSequenceClassification", num_labels=1)
    embedder = load(tmp_path)
    assert embedder.task == "score"
    pairs = [embedder.pairs.encode(*texts, None) for texts in (("w1 w2", "w3"), ("w4", "w5 w6 w7"), ("w1", "w9" * 3))]
    expected = []
    for pair in pairs:
        assert pair is not None
        assert pair.second_start is not None
        first = pair.second_start
        types = [0] * first + [1] * (len(pair.token_ids) - first)
        has_types = getattr(model.config, "type_vocab_size", 0) > 1 and name != "xlm-roberta-xl"
        further = {"token_type_ids": torch.tensor([types])} if has_types else {}
        with torch.inference_mode():
            expected.append(model(torch.tensor([pair.token_ids]), **further).logits[0, 0].sigmoid().item())
    found = [row[0] for row in embedder.embed([pair for pair in pairs if pair is not None])]
    assert found == pytest.approx(expected, abs=1e-4)
    assert max(found) - min(found) > 0.001
    embedder.close()


def test_a_causal_model_without_a_pooling_gives_its_last_state(tmp_path: Path) -> None:
    config = {**LONG, "num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}
    model = save("StableLm", config, tmp_path, "ForCausalLM")
    embedder = load(tmp_path, runner="pooling")
    rows = embedder.embed([EmbeddingInput(item) for item in inputs()])
    for row, token_ids in zip(rows, inputs(), strict=True):
        expected = last_states(model.base_model, token_ids)[-1].numpy()
        assert numpy.abs(numpy.asarray(row) - expected).max() < 1e-4 * max(1, numpy.abs(expected).max())
    embedder.close()


def test_model_impl_chooses_the_definition(tmp_path: Path) -> None:
    save("Bert", LONG, tmp_path)
    given = [EmbeddingInput(item) for item in inputs()]
    ours, theirs = load(tmp_path, model_impl="pagemill"), load(tmp_path, model_impl="transformers")
    for one, other in zip(ours.embed(given), theirs.embed(given), strict=True):
        assert numpy.abs(numpy.asarray(one) - numpy.asarray(other)).max() < 1e-5
    ours.close()
    theirs.close()


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("name", "changes", "options", "reason"),
    [
        ("modernbert", {}, {"model_impl": "pagemill"}, "no definition of our own"),
        ("modernbert", {}, {"max_model_len": POSITIONS + 1}, f"max_model_len is 65, but .* has {POSITIONS} positions"),
        ("modernbert", {"architectures": ["OwnBertModel"]}, {}, "the folder's own code is not run"),
        ("nomic_bert", {"num_hidden_layers": 4}, {}, "has missing keys"),
        ("nomic_bert", {"model_type": "unheard_of"}, {"runner": "pooling"}, "has no model_type='unheard_of'"),
        ("t5", {"n_positions": None}, {}, "does not say how long its inputs may be; set max_model_len"),
    ],
    ids=str,
)
def test_what_can_not_run_is_refused_by_name(
    name: str, changes: dict[str, Any], options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    kind, config, suffix = MODELS[name]
    save(kind, config, tmp_path, suffix)
    edit(tmp_path, **changes)
    with pytest.raises(ModelLoadError, match=reason):
        load(tmp_path, **options)


def test_a_decoder_with_attention_in_both_directions_gives_its_mean(tmp_path: Path) -> None:
    model = save("Qwen3", QWEN3, tmp_path)
    edit(tmp_path, is_causal=False)
    model.config.is_causal = False
    embedder = load(tmp_path)
    rows = embedder.embed([EmbeddingInput(item) for item in inputs()])
    for row, token_ids in zip(rows, inputs(), strict=True):
        expected = last_states(model, token_ids).mean(0).numpy()
        assert numpy.abs(numpy.asarray(row) - expected).max() < 1e-4 * max(1, numpy.abs(expected).max())
    embedder.close()


def test_a_definition_that_stays_causal_against_its_configuration_is_refused(tmp_path: Path) -> None:
    save("Qwen3", QWEN3, tmp_path)
    edit(tmp_path, use_bidirectional_attention=True)
    with pytest.raises(ModelLoadError, match="attention in both directions, which its definition does not do"):
        load(tmp_path)


def test_a_model_that_sees_padding_is_refused(tmp_path: Path) -> None:
    save("FNet", {**LONG, "type_vocab_size": 2, "tpu_short_seq_length": POSITIONS}, tmp_path)
    with pytest.raises(ModelLoadError, match="model_type='fnet' can't run"):
        load(tmp_path)


def test_several_classes_are_refused(tmp_path: Path) -> None:
    save("Electra", {**LONG, "embedding_size": 16}, tmp_path, "ForSequenceClassification", num_labels=3)
    with pytest.raises(ModelLoadError, match="tells 3 classes apart"):
        load(tmp_path)


@pytest.mark.parametrize("suffix", ["ForMaskedLM", "Model", "ForSequenceClassification"])
def test_a_folders_class_says_that_it_generates_no_text(suffix: str, tmp_path: Path) -> None:
    more = {"num_labels": 1} if suffix == "ForSequenceClassification" else {}
    save("ModernBert", MODERN, tmp_path, suffix, **more)
    loaded = load_paged(tmp_path, PagedOptions(device="cpu", dtype="float32", threads=1))
    assert isinstance(loaded, PagedEmbedder)
    loaded.close()
    with pytest.raises(ModelLoadError, match="with the runner generate: it makes embeddings or scores"):
        load_paged(tmp_path, PagedOptions(device="cpu", runner="generate"))
