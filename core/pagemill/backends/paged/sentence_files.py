"""What sentence-transformers' files say of a model folder: how it pools, and how long its inputs may be. Owns no state;
imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagemill.backends.paged.model_folder import read_json_value, read_optional_json
from pagemill.errors import ModelLoadError

if TYPE_CHECKING:
    from pagemill.backends.paged.encoder.pooling import Pooling

MODULES = "modules.json"
KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
POOLINGS: "Mapping[str, Pooling]" = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last",
}
NAMED_POOLINGS: "Mapping[str, Pooling]" = {  # as newer files have it, in one field
    "cls": "cls",
    "mean": "mean",
    "max": "max",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}


@dataclass(frozen=True, slots=True)
class SentenceConfig:
    """None where the files say nothing."""

    pooling: "Pooling | None" = None
    max_seq_length: int | None = None


def is_sentence_model(folder: Path) -> bool:
    """Whether the folder was saved by sentence-transformers."""
    return (folder / MODULES).is_file()


def read_sentence_config(folder: Path) -> SentenceConfig:
    """
    Raises:
        ModelLoadError: a file is damaged, or asks for what we don't do; names it.
    """
    limit = _max_seq_length(folder)
    if not is_sentence_model(folder):
        return SentenceConfig(None, limit)
    pooling: Pooling | None = None
    for kind, path in _modules(folder):
        if kind not in KNOWN_MODULES:
            known = ", ".join(KNOWN_MODULES)
            raise ModelLoadError(f"{folder / MODULES} has a module {kind}, which is not supported (known are {known})")
        if kind == "Pooling":
            pooling = _pooling(path / "config.json")
    return SentenceConfig(pooling, limit)


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """(class, folder) of each module, in order."""
    path = folder / MODULES
    modules = read_json_value(path)
    if not isinstance(modules, list) or not all(
        isinstance(item, dict) and isinstance(item.get("type"), str) and isinstance(item.get("path"), str)
        for item in modules
    ):
        raise ModelLoadError(f"{path} is no list of modules with a type and a path each")
    return [(item["type"].rpartition(".")[2], folder / item["path"]) for item in modules]


def _pooling(path: Path) -> "Pooling":
    config = read_optional_json(path)
    chosen = [POOLINGS[name] for name, value in config.items() if name in POOLINGS and value is True]
    named = config.get("pooling_mode")
    if isinstance(named, str) and named in NAMED_POOLINGS:
        chosen.append(NAMED_POOLINGS[named])
    if len(chosen) != 1:
        raise ModelLoadError(
            f"{path} asks for the poolings {chosen or named!r}; exactly one of those known is supported"
        )
    return chosen[0]


def _max_seq_length(folder: Path) -> int | None:
    path = folder / "sentence_bert_config.json"
    limit: Any = read_optional_json(path).get("max_seq_length")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ModelLoadError(f"{path}: max_seq_length={limit!r} is not a positive integer")
    return limit
