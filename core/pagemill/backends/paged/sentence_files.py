"""What sentence-transformers' files say of a model folder: how it pools and what follows, how long its inputs may be,
how pairs are scored. Owns no state; imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pagemill.backends.paged.model_folder import read_json_value, read_optional_json
from pagemill.errors import ModelLoadError

if TYPE_CHECKING:
    from pagemill.backends.paged.encoder.pooling import Pooling

MODULES = "modules.json"
MODEL_CONFIG = "config_sentence_transformers.json"
TRANSFORMER_CONFIG = "sentence_bert_config.json"
QWEN3_RERANKER = "qwen3-reranker"  # in the folder's name, or after "# " in its README.md, as llama.cpp finds it
VECTOR_MODULES = ("Dense", "LayerNorm", "Normalize")  # behind the pooling
KNOWN_MODULES = ("Transformer", "Pooling", *VECTOR_MODULES, "LogitScore")
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


class SentenceModule(NamedTuple):
    """A part of the model. `kind` is its class."""

    kind: str
    folder: Path


class LogitScore(NamedTuple):
    """A pair's score is the logit of one token, less that of another if there is one."""

    true_token_id: int
    false_token_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceConfig:
    """None and empty where the files say nothing."""

    pooling: "Pooling | None" = None
    vector_modules: tuple[SentenceModule, ...] = ()
    logit_score: LogitScore | None = None
    max_seq_length: int | None = None
    activation: str | None = None  # of scores
    default_prompt: str | None = None  # that stands before texts, or is the system's message of a pair
    pools_prompt: bool = True  # whether its states are pooled too
    template_arguments: Mapping[str, Any] = field(default_factory=dict)  # of a chat template


def is_sentence_model(folder: Path) -> bool:
    """Whether the folder was saved by sentence-transformers."""
    return (folder / MODULES).is_file()


def is_qwen3_reranker(folder: Path, model_type: object) -> bool:
    """Whether it is one of Qwen's rerankers, whose configuration is that of a model that generates text."""
    if model_type != "qwen3":
        return False
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    return QWEN3_RERANKER in folder.name.lower() or f"# {QWEN3_RERANKER}" in text.lower()


def read_sentence_config(folder: Path) -> SentenceConfig:
    """
    Raises:
        ModelLoadError: a file is damaged, or asks for what we don't do; names it.
    """
    transformer, model = read_optional_json(folder / TRANSFORMER_CONFIG), read_optional_json(folder / MODEL_CONFIG)
    modules = _modules(folder) if is_sentence_model(folder) else []
    pooling, vector_modules = _pooling_and_vectors(folder, modules)
    scores = [_logit_score(module.folder / "config.json") for module in modules if module.kind == "LogitScore"]
    return SentenceConfig(
        pooling=pooling,
        vector_modules=vector_modules,
        logit_score=scores[0] if scores else None,
        max_seq_length=_max_seq_length(folder / TRANSFORMER_CONFIG, transformer),
        activation=model.get("activation_fn"),
        default_prompt=_default_prompt(folder / MODEL_CONFIG, model),
        pools_prompt=all(
            read_optional_json(module.folder / "config.json").get("include_prompt") is not False
            for module in modules
            if module.kind == "Pooling"
        ),
        template_arguments=(transformer.get("processing_kwargs") or {}).get("chat_template") or {},
    )


def _default_prompt(path: Path, config: Mapping[str, Any]) -> str | None:
    prompts, name = config.get("prompts") or {}, config.get("default_prompt_name")
    if name is None:
        return None
    prompt: Any = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    if not isinstance(prompt, str):
        raise ModelLoadError(f"{path}: default_prompt_name={name!r} is none of its prompts")
    return prompt


def _modules(folder: Path) -> list[SentenceModule]:
    """All, in order."""
    path = folder / MODULES
    modules = read_json_value(path)
    if not isinstance(modules, list) or not all(
        isinstance(item, dict) and isinstance(item.get("type"), str) and isinstance(item.get("path"), str)
        for item in modules
    ):
        raise ModelLoadError(f"{path} is no list of modules with a type and a path each")
    found = [SentenceModule(item["type"].rpartition(".")[2], folder / item["path"]) for item in modules]
    if unknown := [module.kind for module in found if module.kind not in KNOWN_MODULES]:
        known = ", ".join(KNOWN_MODULES)
        raise ModelLoadError(f"{path} has a module {unknown[0]}, which is not supported (known are {known})")
    return found


def _pooling_and_vectors(
    folder: Path, modules: list[SentenceModule]
) -> "tuple[Pooling | None, tuple[SentenceModule, ...]]":
    """How states are pooled, and the modules for the vectors that come of it."""
    kinds = [module.kind for module in modules]
    if "Pooling" not in kinds:
        if vectors := [kind for kind in kinds if kind in VECTOR_MODULES]:
            raise ModelLoadError(f"{folder / MODULES} has a module {vectors[0]} but no Pooling before it")
        return None, ()
    place = kinds.index("Pooling")
    if strange := [kind for kind in kinds[place + 1 :] if kind not in VECTOR_MODULES]:
        raise ModelLoadError(f"{folder / MODULES} has a module {strange[0]} behind its Pooling, which is not supported")
    return _pooling(modules[place].folder / "config.json"), tuple(modules[place + 1 :])


def _logit_score(path: Path) -> LogitScore:
    config = read_optional_json(path)
    true, false = config.get("true_token_id"), config.get("false_token_id")
    if type(true) is not int or not (false is None or type(false) is int):
        raise ModelLoadError(f"{path}: true_token_id={true!r} and false_token_id={false!r} are no token ids")
    return LogitScore(true, false)


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


def _max_seq_length(path: Path, config: Mapping[str, Any]) -> int | None:
    limit: Any = config.get("max_seq_length")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ModelLoadError(f"{path}: max_seq_length={limit!r} is not a positive integer")
    return limit
