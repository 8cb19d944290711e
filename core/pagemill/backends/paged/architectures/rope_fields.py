"""Rotary embedding as config.json describes it, in either form: `rope_theta` and `rope_scaling`, or `rope_parameters`
(transformers 5). Owns no state.
"""

import math
from collections.abc import Callable, Mapping

from pagemill.backends.paged.architectures.fields import Fields
from pagemill.backends.paged.config import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    RopeConfig,
    RopeScaling,
    YarnScaling,
)

DEFAULT_THETA = 10000.0


def read_rope(
    fields: Fields, head_dim: int, *, partial: bool = False, aliases: Mapping[str, str] | None = None
) -> RopeConfig:
    """The model's one rotary embedding. `partial`: the family may rotate only a part of each head. `aliases`: other
    names that the family has for a kind of scaling.
    """
    scaling = rope_object(fields)
    theta = scaling.number("rope_theta", fields.number("rope_theta", DEFAULT_THETA))
    share = scaling.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0))
    if share != 1.0 and not partial:
        (scaling if "partial_rotary_factor" in scaling else fields).refuse("partial_rotary_factor", "is not supported")
    return rope_config(fields, scaling, theta, int(head_dim * share), aliases or {})


def rope_object(fields: Fields) -> Fields:
    """The object that holds the scaling; an empty one if there is none."""
    name = "rope_scaling" if fields.raw("rope_scaling") else "rope_parameters"
    return fields.nested(name) if fields.raw(name) else Fields({}, name + ".")


def rope_config(
    fields: Fields, scaling: Fields, theta: float, rotary_dim: int, aliases: Mapping[str, str]
) -> RopeConfig:
    """`fields`: the whole config.json. `scaling`: its object for this embedding.

    Raises:
        ModelLoadError: the kind, or a parameter of it, is none that we know.
    """
    old_name, new_name = scaling.raw("type"), scaling.raw("rope_type")
    kind = new_name or old_name or "default"
    kind = aliases.get(kind, kind)
    if kind == "default":
        config = RopeConfig(theta=theta, rotary_dim=rotary_dim)
    elif kind in READERS:
        config = RopeConfig(theta=theta, rotary_dim=rotary_dim, scaling=READERS[kind](fields, scaling, rotary_dim))
    else:
        scaling.refuse("rope_type" if new_name else "type", "is not supported")
    for name in scaling.unread():
        scaling.refuse(name.rpartition(".")[2], f"is not supported for rotary embedding of type {kind!r}")
    return config


def _linear(fields: Fields, scaling: Fields, rotary_dim: int) -> RopeScaling:
    return LinearScaling(factor=scaling.number("factor"))


def _dynamic(fields: Fields, scaling: Fields, rotary_dim: int) -> RopeScaling:
    original = fields.integer("max_position_embeddings")
    scaling.expect("original_max_position_embeddings", None, original)
    return DynamicScaling(factor=scaling.number("factor"), original_max_positions=original)


def _llama3(fields: Fields, scaling: Fields, rotary_dim: int) -> RopeScaling:
    return Llama3Scaling(
        factor=scaling.number("factor"),
        low_freq_factor=scaling.number("low_freq_factor"),
        high_freq_factor=scaling.number("high_freq_factor"),
        original_max_positions=_original_max_positions(fields, scaling),
    )


def _yarn(fields: Fields, scaling: Fields, rotary_dim: int) -> RopeScaling:
    original = _original_max_positions(fields, scaling)
    factor = _factor(fields, scaling, original)
    mscale, mscale_all_dim = scaling.number("mscale", 0.0), scaling.number("mscale_all_dim", 0.0)
    attention_factor = scaling.optional_number("attention_factor")
    if attention_factor is None:
        attention_factor = _yarn_mscale(factor, 1.0)
        if mscale and mscale_all_dim:
            attention_factor = _yarn_mscale(factor, mscale) / _yarn_mscale(factor, mscale_all_dim)
    return YarnScaling(
        factor=factor,
        attention_factor=attention_factor,
        beta_fast=scaling.number("beta_fast", 32.0) or 32.0,
        beta_slow=scaling.number("beta_slow", 1.0) or 1.0,
        truncate=scaling.flag("truncate", True),
        original_max_positions=original,
    )


def _longrope(fields: Fields, scaling: Fields, rotary_dim: int) -> RopeScaling:
    original = _original_max_positions(fields, scaling)
    factor = _factor(fields, scaling, original)
    attention_factor = scaling.optional_number("attention_factor")
    if attention_factor is None:
        attention_factor = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    return LongRopeScaling(
        short_factors=scaling.numbers("short_factor", rotary_dim // 2),
        long_factors=scaling.numbers("long_factor", rotary_dim // 2),
        attention_factor=attention_factor,
        original_max_positions=original,
    )


READERS: Mapping[str, Callable[[Fields, Fields, int], RopeScaling]] = {
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}


def _original_max_positions(fields: Fields, scaling: Fields) -> int:
    """As transformers reads it: the model's own field goes before the scaling's, and its whole context is the last."""
    inner = scaling.optional_integer("original_max_position_embeddings")
    outer = fields.optional_integer("original_max_position_embeddings")
    return outer or inner or fields.integer("max_position_embeddings")


def _factor(fields: Fields, scaling: Fields, original: int) -> float:
    return scaling.number("factor", fields.integer("max_position_embeddings") / original)


def _yarn_mscale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
