"""`model_info` of `/api/show`: what a model's file says of it, in the names that GGUF has for it. Owns no state.

Clients look a model's numbers up by those names, `general.architecture` first and then `<architecture>.context_length`
and the like; so for a model folder they are made from its config.json, as Ollama does for its safetensors models.
"""

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagemill.backends.base import ModelInfo

LONG_ARRAY = 5  # longer arrays of the metadata are shown only if the client wants it verbose
LEFT_OUT = frozenset({"general.name", "tokenizer.chat_template"})  # as in Ollama: shown elsewhere

# What config.json calls it (the first that is there), and GGUF.
NUMBERS = (
    (("num_hidden_layers", "n_layer"), "block_count"),
    (("intermediate_size", "n_inner"), "feed_forward_length"),
    (("num_attention_heads", "n_head"), "attention.head_count"),
    (("num_key_value_heads",), "attention.head_count_kv"),
    (("head_dim",), "attention.key_length"),
    (("head_dim",), "attention.value_length"),
    (("rms_norm_eps",), "attention.layer_norm_rms_epsilon"),
    (("sliding_window",), "attention.sliding_window"),
    (("rope_theta",), "rope.freq_base"),
    (("num_local_experts", "num_experts"), "expert_count"),
    (("num_experts_per_tok",), "expert_used_count"),
)


def model_info(info: "ModelInfo", *, verbose: bool) -> dict[str, object]:
    """All that is known. Reads the file's metadata, which can take long: not on the event loop.

    Without `verbose`, long arrays are shown empty, and of a config.json only what GGUF has a name for.
    """
    found: dict[str, object] = {"general.parameter_count": info.num_parameters}
    if info.format == "safetensors":
        found |= _in_names_of_gguf(info)
        if not verbose:
            return found
    for key, value in info.metadata.items():
        if key not in LEFT_OUT:
            is_long = isinstance(value, list | tuple) and len(value) > LONG_ARRAY
            found[key] = [] if is_long and not verbose else _in_json(value)
    return found


def _in_json(value: object) -> object:
    """The value, with null for numbers that JSON does not have (Mamba's configurations have an Infinity)."""
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [_in_json(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _in_json(item) for key, item in value.items()}
    return value


def _in_names_of_gguf(info: "ModelInfo") -> Iterator[tuple[str, object]]:
    """Pairs for the model's own numbers, then for those in its config.json."""
    yield "general.architecture", info.architecture
    yield f"{info.architecture}.context_length", info.context_length
    yield f"{info.architecture}.embedding_length", info.embedding_length
    yield f"{info.architecture}.vocab_size", info.vocab_size
    config = _text_config(info.metadata)
    for names, name_in_gguf in NUMBERS:
        value = next((config[name] for name in names if config.get(name) is not None), None)
        if value is not None:
            yield f"{info.architecture}.{name_in_gguf}", _in_json(value)


def _text_config(config: Mapping[str, object]) -> Mapping[str, object]:
    """The part about text of a model that takes images too, and with it the rotary embedding's parameters."""
    text = config.get("text_config")
    found = {**(text if isinstance(text, Mapping) else config)}
    rope = found.get("rope_parameters")
    return {**rope, **found} if isinstance(rope, Mapping) else found
