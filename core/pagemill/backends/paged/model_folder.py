"""What lies in a Hugging Face model folder: its JSON files, and which of its files are the weights. Owns no state.

Refuses, by name, folders of other kinds: adapters, pipelines of diffusers, GGUF, quantized checkpoints.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagemill.errors import ModelLoadError

CONFIG = "config.json"
FORMATS = ("model.safetensors", "pytorch_model.bin")  # the better one first
LFS_POINTER = b"version https://git-lfs"
DOWNLOAD_AGAIN = "download it again"


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The files of one checkpoint, in order. `weight_map` is the index's, if there is one: tensor name to file name."""

    paths: tuple[Path, ...]
    index: Path | None = None
    weight_map: Mapping[str, str] | None = None


def read_config(folder: Path) -> dict[str, Any]:
    """config.json.

    Raises:
        ModelLoadError: it is missing, no JSON object, without a `model_type`, or of weights that can't be run here.
    """
    if not folder.is_dir():
        raise ModelLoadError(f"can't load {folder}: it is not a folder")
    path = folder / CONFIG
    if not path.is_file():
        raise ModelLoadError(f"can't load {folder}: {_what_else_it_is(folder)}")
    config = read_json_object(path)
    if not isinstance(config.get("model_type"), str):
        raise ModelLoadError(f"{path} names no model_type, so its architecture is unknown")
    _refuse_quantized(path, config)
    return config


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelLoadError: the file can't be read, or holds no JSON object; names it.
    """
    content = read_json_value(path)
    if not isinstance(content, dict):
        raise ModelLoadError(f"{path} holds {type(content).__name__} where a JSON object belongs; {DOWNLOAD_AGAIN}")
    return content


def read_json_value(path: Path) -> Any:
    """The JSON in a file, whatever it is.

    Raises:
        ModelLoadError: the file can't be read, or holds no JSON; names it.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ModelLoadError(f"can't read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path} is not JSON: {error}; {DOWNLOAD_AGAIN}") from error


def read_optional_json(path: Path) -> dict[str, Any]:
    """As `read_json_object`; nothing if there is no such file."""
    return read_json_object(path) if path.exists() else {}


def find_weight_files(folder: Path) -> WeightFiles:
    """The weights, as transformers finds them: safetensors before .bin, a single file before shards.

    Raises:
        ModelLoadError: there are none, or a file that the index names is missing; names it.
    """
    for name in FORMATS:
        path, index = folder / name, folder / f"{name}.index.json"
        if path.is_file():
            return WeightFiles((path,))
        if index.is_file():
            return _shards(folder, index)
    looked_for = ", ".join(f"{name}, {name}.index.json" for name in FORMATS)
    raise ModelLoadError(f"{folder} has no weights: {_what_lacks(folder)} (looked for {looked_for})")


def refuse_lfs_pointer(path: Path, first_bytes: bytes) -> None:
    """
    Raises:
        ModelLoadError: the file is not the weights, only git's note of where they are.
    """
    if first_bytes.startswith(LFS_POINTER[: len(first_bytes)]) and first_bytes:
        raise ModelLoadError(f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder")


def _shards(folder: Path, index: Path) -> WeightFiles:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelLoadError(f"{index} has no weight_map of tensor names to files; {DOWNLOAD_AGAIN}")
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not name or Path(name).name != name:
            raise ModelLoadError(f"{index} says that {tensor} is in {name!r}, which is no name of a file beside it")
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not os.path.isfile(folder / name)]  # False for what can't be a name, too
    if missing:
        listed = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ModelLoadError(
            f"{folder} lacks {len(missing)} of the {len(names)} files that {index.name} names: {listed}; "
            "download what is missing"
        )
    return WeightFiles(tuple(folder / name for name in names), index, weight_map)


def _what_else_it_is(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return "it is an adapter (LoRA or another of PEFT's), no model; merge it into its base model first"
    if (folder / "model_index.json").is_file():
        return "it is a pipeline of diffusers, which makes images, not text"
    gguf = sorted(folder.glob("*.gguf"))
    if gguf:
        return f"it holds GGUF files, not a Hugging Face model; name the file: {gguf[0]}"
    return f"it has no {CONFIG}, so it is no Hugging Face model folder"


def _what_lacks(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return "it is an adapter (LoRA or another of PEFT's); merge it into its base model first"
    shards = sorted(path.name for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern))
    if shards:
        return f"{shards[0]} is there, but no index that says what belongs to the model; download the .index.json too"
    others = sorted(
        path.name for pattern in ("*.gguf", "*.pth", "*.onnx", "*.msgpack", "*.h5") for path in folder.glob(pattern)
    )
    return f"{others[0]} is of a format that is not read from a folder" if others else "download them"


def _refuse_quantized(path: Path, config: Mapping[str, Any]) -> None:
    quantization = config.get("quantization_config", config.get("compression_config"))
    if quantization is None:
        return
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    raise ModelLoadError(
        f"{path} says that the weights are quantized by {method or 'an unnamed method'}, which is not supported here; "
        "take the model's unquantized weights (BF16, F16 or F32), or a GGUF file of it"
    )
