"""What transformers' definitions are refused for, and that a probe sees it before anything is served."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pagemill.backends.paged.attention.torch_attention import TorchAttention
from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.backends.paged.transformers_model import TransformersModel, load_transformers_model
from pagemill.errors import ModelLoadError
from support.model_zoo import FOREIGN
from support.tiny_safetensors import TinyModel

CPU = torch.device("cpu")


def load(folder: Path, max_model_len: int | None = None) -> TransformersModel:
    with Checkpoint.open(folder) as checkpoint:
        return load_transformers_model(
            checkpoint, dtype=torch.float32, device=CPU, attention=TorchAttention(), max_model_len=max_model_len
        )


def edit_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_model_tells_its_shape_and_context(tmp_path: Path) -> None:
    model = load(FOREIGN["deepseek_v3"].write(tmp_path / "model"))
    assert (model.kv_shape.num_layers, model.kv_shape.num_kv_heads, model.kv_shape.head_dim) == (2, 4, 24)
    assert (model.vocab_size, model.context_length, model.hidden_size) == (449, 1024, 64)


@pytest.mark.parametrize(
    ("model_type", "overrides", "words"),
    [
        ("gpt_oss", {}, "GptOssAttention passes s_aux"),
        ("bert", {}, "BertSelfAttention is not causal"),
        ("bloom", {}, r"layers \[0, 1\] keep their context in something else"),
        ("rwkv", {}, r"layers \[0, 1\] keep their context in something else"),
        ("jamba", {}, "layer_types has linear_attention"),
        ("llama4_text", {}, "layer_types has chunked_attention"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention=True"),
    ],
)
def test_architecture_that_needs_more_is_refused_by_name(
    model_type: str, overrides: dict[str, object], words: str, tmp_path: Path
) -> None:
    folder = TinyModel(model_type=model_type, overrides=overrides).write(tmp_path / "model")
    with pytest.raises(ModelLoadError, match=f"model_type='{model_type}' can't run.*{words}"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "t5"}, "model_type='t5' can't run.*no model of it that generates text"),
        ({"model_type": "unheard_of"}, "transformers [0-9.]+ has no model_type='unheard_of'$"),
        (
            {"model_type": "unheard_of", "auto_map": {"AutoConfig": "code.Config"}},
            r"code in .* \(auto_map\) is not run",
        ),
        ({"hidden_size": "wide"}, "transformers can't read .*config.json: .*hidden_size"),
    ],
)
def test_configuration_is_refused_by_the_field(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    folder = edit_config(FOREIGN["gpt_neox"].write(tmp_path / "model"), **changes)
    with pytest.raises(ModelLoadError, match=re.compile(words, re.DOTALL)):
        load(folder)


def test_missing_weights_are_not_made_up(tmp_path: Path) -> None:
    folder = FOREIGN["gpt_neox"].write(tmp_path / "model")
    path, name = folder / "model.safetensors", "gpt_neox.layers.1.attention.dense.weight"
    save_file({key: value.clone() for key, value in load_file(path).items() if key != name}, path)
    with pytest.raises(ModelLoadError, match=f"missing keys.*{re.escape(name)}"):
        load(folder)


def test_rotary_embedding_that_changes_with_the_batch_is_kept_within_its_first_context(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0, "partial_rotary_factor": 0.25}
    folder = TinyModel(model_type="gpt_neox", overrides={"rope_parameters": rope}).write(tmp_path / "model")
    assert load(folder, max_model_len=1024).context_length == 1024
    with pytest.raises(ModelLoadError, match="rope_type='dynamic' needs a max_model_len of at most 1024, not 1025"):
        load(folder, max_model_len=1025)
