"""What follows the pooling in sentence-transformers' folders, against sentence-transformers itself."""

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize, Pooling, Transformer

from pagemill.backends.embedder import EmbeddingInput
from pagemill.backends.paged.embedder_loading import load_embedder
from pagemill.backends.paged.options import PagedOptions
from pagemill.errors import ModelLoadError
from support.encoder_folders import BERT, POSITIONS, save

TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11 w12"]
MODULES: dict[str, list[Any]] = {
    "LaBSE": [Dense(32, 32), Normalize()],
    "GTR": [Dense(32, 48, bias=False, activation_function=torch.nn.Identity()), Normalize()],
    "EmbeddingGemma": [
        Dense(32, 96, bias=False, activation_function=torch.nn.Identity()),
        Dense(96, 24, bias=False, activation_function=torch.nn.Identity()),
        Normalize(),
    ],
    "others": [Dense(32, 16, activation_function=torch.nn.GELU()), LayerNorm(16), Dense(16, 8)],
}


def write(folder: Path, modules: list[Any]) -> SentenceTransformer:
    """A random BERT with the modules behind its pooling, saved by sentence-transformers."""
    save("Bert", {**BERT, "max_position_embeddings": POSITIONS}, folder / "bert")
    torch.manual_seed(0)
    for module in modules:
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    transformer = Transformer(str(folder / "bert"))
    model = SentenceTransformer(modules=[transformer, Pooling(32, "mean"), *modules], device="cpu")
    model.save(str(folder / "whole"), create_model_card=False)
    return model


def load(folder: Path) -> Any:
    return load_embedder(folder / "whole", PagedOptions(device="cpu", dtype="float32", threads=1))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", MODULES)
def test_vectors_are_sentence_transformers_own(name: str, tmp_path: Path) -> None:
    expected = write(tmp_path, MODULES[name]).encode(TEXTS)
    embedder = load(tmp_path)
    assert embedder.info.embedding_length == expected.shape[1]
    inputs = [
        EmbeddingInput(tuple(embedder.tokenizer.encode(text, add_special=True, parse_special=False))) for text in TEXTS
    ]
    assert numpy.abs(numpy.array([list(row) for row in embedder.embed(inputs)]) - expected).max() < 1e-5
    embedder.close()


def test_weights_may_be_in_a_pickle_file(tmp_path: Path) -> None:
    dense = Dense(32, 16)
    write(tmp_path, [dense])
    folder = tmp_path / "whole" / "2_Dense"
    (folder / "model.safetensors").unlink()
    torch.save(dense.state_dict(), folder / "pytorch_model.bin")
    assert load(tmp_path).info.embedding_length == 16


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"in_features": 31}, "in_features=31 is not supported; it would have to be 32"),
        ({"out_features": "many"}, "out_features='many' is not a positive integer"),
        ({"out_features": 17}, r"linear.weight should have the shape \[17, 32\], but is \[16, 32\]"),
        ({"activation_function": "my.Own"}, "activation_function='my.Own' is not supported"),
        ({"use_residual": True}, "use_residual=True is not supported"),
        ({"module_input_name": "token_embeddings"}, "module_input_name='token_embeddings' is not supported"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_dense_module_that_does_not_fit_is_refused_by_its_field(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    write(tmp_path, [Dense(32, 16)])
    edit(tmp_path / "whole" / "2_Dense" / "config.json", **changes)
    with pytest.raises(ModelLoadError, match=reason):
        load(tmp_path)


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        (["Transformer", "Dense"], "a module Dense but no Pooling before it"),
        (["Transformer", "Pooling", "Transformer"], "a module Transformer behind its Pooling"),
        (["Transformer", "Pooling", "Dropout"], "a module Dropout, which is not supported"),
    ],
    ids=str,
)
def test_an_order_of_modules_that_is_not_known_is_refused(kinds: list[str], reason: str, tmp_path: Path) -> None:
    write(tmp_path, [Dense(32, 16)])
    modules = [
        {"idx": index, "name": str(index), "path": "", "type": f"any.{kind}"} for index, kind in enumerate(kinds)
    ]
    (tmp_path / "whole" / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelLoadError, match=reason):
        load(tmp_path)


@pytest.mark.parametrize(
    ("prompts", "pooled", "reason"),
    [
        ({"query": "w1 "}, True, "default_prompt_name='document' is none of its prompts"),
        ({"document": "w1 "}, False, "leaves its default prompt 'w1 ' out of the pooling, which is not supported"),
    ],
)
def test_a_default_prompt_that_can_not_be_put_before_texts_is_refused(
    prompts: dict[str, str], pooled: bool, reason: str, tmp_path: Path
) -> None:
    write(tmp_path, [])
    edit(tmp_path / "whole" / "config_sentence_transformers.json", prompts=prompts, default_prompt_name="document")
    edit(tmp_path / "whole" / "1_Pooling" / "config.json", include_prompt=pooled)
    with pytest.raises(ModelLoadError, match=reason):
        load(tmp_path)
