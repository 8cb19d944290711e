"""Decoders that rank, against transformers and sentence-transformers with the same random weights."""

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.sentence_transformer.modules import Transformer

from pagemill.backends.embedder import EmbeddingInput
from pagemill.backends.paged.embedder import PagedEmbedder
from pagemill.backends.paged.loading import load_paged
from pagemill.backends.paged.options import PagedOptions
from pagemill.backends.paged.reranking import QWEN3_TEMPLATE
from pagemill.errors import ModelLoadError
from support.encoder_folders import write_reranker
from support.tiny_safetensors import TinyModel

NUM_TOKENS = TinyModel().config().vocab_size
PAIRS = [("what is there", "the people"), ("when", "now and then"), ("when?", "you are"), ("who", "from them all")]
ROLES = """{% if messages[0].role == 'system' %}<|im_start|>{{ messages[0].content }}<|im_end|>{% endif %}
<|im_start|>query: {{ (messages | selectattr('role', 'eq', 'query') | first).content }}
document: {{ (messages | selectattr('role', 'eq', 'document') | first).content }}<|im_end|>
{% if add_generation_prompt %}<|im_start|>{% endif %}"""


def load(folder: Path, **options: Any) -> PagedEmbedder:
    loaded = load_paged(folder, PagedOptions(device="cpu", dtype="float32", threads=1, **options))
    assert isinstance(loaded, PagedEmbedder)
    assert loaded.task == "score"
    return loaded


def encoded(embedder: PagedEmbedder, pairs: list[tuple[str, str]]) -> list[EmbeddingInput]:
    found = [embedder.pairs.encode(*pair, None) for pair in pairs]
    return [item for item in found if item is not None]


def scores(embedder: PagedEmbedder, pairs: list[tuple[str, str]]) -> list[float]:
    return [row[0] for row in embedder.embed(encoded(embedder, pairs))]


@pytest.mark.parametrize("tied", [True, False])
def test_qwens_reranker_gives_transformers_probability_of_yes(tied: bool, tmp_path: Path) -> None:
    folder = tmp_path / "Qwen3-Reranker-tiny"
    model = write_reranker(folder, "ForCausalLM", tie_word_embeddings=tied)
    embedder = load(folder)
    expected = []
    for pair in encoded(embedder, PAIRS):
        with torch.inference_mode():
            logits = model(torch.tensor([pair.token_ids])).logits[0, -1]
        no_and_yes = [
            embedder.tokenizer.encode(text, add_special=False, parse_special=False)[0] for text in ("no", "yes")
        ]
        expected.append(logits[no_and_yes].softmax(0)[1].item())
    assert scores(embedder, PAIRS) == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.01
    embedder.close()


def test_qwens_reranker_is_known_by_its_readme_and_asked_by_its_template(tmp_path: Path) -> None:
    write_reranker(tmp_path, "ForCausalLM")
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Qwen3-Reranker-0.6B\n")
    embedder = load(tmp_path)
    text = QWEN3_TEMPLATE.format(query="what", document="this")
    assert list(encoded(embedder, [("what", "this")])[0].token_ids) == embedder.tokenizer.encode(
        text, add_special=False, parse_special=True
    )
    embedder.close()


def test_a_classifier_gives_transformers_score(tmp_path: Path) -> None:
    folder = tmp_path / "Qwen3-Reranker-tiny-seq-cls"
    model = write_reranker(folder, "ForSequenceClassification", num_labels=1)
    embedder = load(folder)
    with torch.inference_mode():
        logits = [model(torch.tensor([pair.token_ids])).logits[0, 0] for pair in encoded(embedder, PAIRS)]
    assert scores(embedder, PAIRS) == pytest.approx(torch.tensor(logits).sigmoid().tolist(), abs=1e-5)
    embedder.close()


@pytest.mark.parametrize(
    ("tokens", "prompt", "activation"),
    [
        ((300, 200), None, torch.nn.Sigmoid()),
        ((300, 200), "Rank these", torch.nn.Identity()),
        ((300, None), None, torch.nn.Identity()),
    ],
    ids=str,
)
def test_logit_scores_are_sentence_transformers_own(
    tokens: tuple[int, int | None], prompt: str | None, activation: Any, tmp_path: Path
) -> None:
    TinyModel(model_type="qwen3", chat_template=ROLES).write(tmp_path / "qwen3")
    arguments = {"chat_template": {"add_generation_prompt": True}}
    transformer = Transformer(str(tmp_path / "qwen3"), transformer_task="text-generation", processing_kwargs=arguments)
    transformer.tokenizer.pad_token = "<|endoftext|>"
    prompts = {} if prompt is None else {"prompts": {"rank": prompt}, "default_prompt_name": "rank"}
    model = CrossEncoder(modules=[transformer, LogitScore(*tokens)], device="cpu", activation_fn=activation, **prompts)
    model.save(str(tmp_path / "whole"), create_model_card=False)
    pairs = [("what is there", "the people"), ("when", "now and then"), ("who?", "you are")]
    expected = model.predict(pairs).tolist()
    embedder = load(tmp_path / "whole")
    assert scores(embedder, pairs) == pytest.approx(expected, abs=1e-4)
    assert numpy.ptp(expected) > 0.01
    embedder.close()


def test_a_decoder_whose_pairs_are_not_known_is_refused(tmp_path: Path) -> None:
    write_reranker(tmp_path, "ForSequenceClassification", num_labels=1)
    with pytest.raises(ModelLoadError, match="does not say how its pairs are written"):
        load(tmp_path)


def test_several_classes_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "Qwen3-Reranker-tiny"
    write_reranker(folder, "ForSequenceClassification", num_labels=3)
    with pytest.raises(ModelLoadError, match=r"score.weight .* has the shape \[3, 32\]"):
        load(folder)


def test_a_token_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_reranker(tmp_path, "ForCausalLM")
    modules = [("Transformer", ""), ("LogitScore", "1_LogitScore")]
    (tmp_path / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "", "path": path, "type": f"any.{kind}"} for kind, path in modules])
    )
    (tmp_path / "1_LogitScore").mkdir()
    (tmp_path / "README.md").write_text("# Qwen3-Reranker")
    for config, reason in (
        ({"true_token_id": NUM_TOKENS}, "no tokens"),
        ({"true_token_id": "yes"}, "true_token_id='yes'"),
    ):
        (tmp_path / "1_LogitScore" / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelLoadError, match=reason):
            load(tmp_path)


def test_a_reranker_generates_if_it_is_told_to(tmp_path: Path) -> None:
    folder = tmp_path / "Qwen3-Reranker-tiny"
    write_reranker(folder, "ForCausalLM")
    loaded = load_paged(folder, PagedOptions(device="cpu", dtype="float32", threads=1, runner="generate"))
    assert not isinstance(loaded, PagedEmbedder)
    loaded.close()
