"""Writes model folders of a few tensors, whole in one file or in shards, in each format that is read."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.errors import ModelLoadError

CONFIG = {"model_type": "llama", "vocab_size": 8}
TENSORS = {
    "model.embed_tokens.weight": torch.arange(32, dtype=torch.float32).reshape(8, 4).bfloat16(),
    "model.norm.weight": torch.linspace(0, 1, 4),
    "lm_head.weight": torch.arange(100, 132).reshape(8, 4).bfloat16(),
    "model.rotary.positions": torch.arange(6),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
}
SHARDS = (
    ("model.embed_tokens.weight", "scalar"),
    ("model.norm.weight", "empty"),
    ("lm_head.weight", "model.rotary.positions"),
)
Save = Callable[[Mapping[str, Any], Path], None]


def save_pickle(tensors: Mapping[str, Any], path: Path) -> None:
    torch.save(dict(tensors), path)


def save_legacy_pickle(tensors: Mapping[str, Any], path: Path) -> None:
    torch.save(dict(tensors), path, _use_new_zipfile_serialization=False)


def save_safetensors(tensors: Mapping[str, Any], path: Path) -> None:
    save_file(dict(tensors), path)


FORMS: Mapping[str, tuple[Save, str]] = {
    "safetensors": (save_safetensors, "model.safetensors"),
    "bin": (save_pickle, "pytorch_model.bin"),
    "legacy bin": (save_legacy_pickle, "pytorch_model.bin"),
}


def write_single(folder: Path, form: str = "safetensors", tensors: Mapping[str, Any] = TENSORS) -> Path:
    """One file; returns it."""
    save, name = FORMS[form]
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save(tensors, folder / name)
    return folder / name


def write_shards(folder: Path, form: str = "safetensors") -> list[Path]:
    """Three files and an index; returns the files."""
    save, name = FORMS[form]
    stem, suffix = name.split(".")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    paths = [folder / f"{stem}-{number + 1:05}-of-00003.{suffix}" for number in range(3)]
    for path, names in zip(paths, SHARDS, strict=True):
        save({tensor: TENSORS[tensor] for tensor in names}, path)
    weight_map = {tensor: path.name for path, names in zip(paths, SHARDS, strict=True) for tensor in names}
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return paths


def refusal(folder: Path) -> str:
    """Why the folder can't be opened."""
    with pytest.raises(ModelLoadError) as caught:
        Checkpoint.open(folder)
    return str(caught.value)
