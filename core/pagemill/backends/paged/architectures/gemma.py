"""Gemma 2 and 3, their text models. Each function reads its family's config.json. Owns no state."""

from dataclasses import replace

from pagemill.backends.paged.architectures.fields import FALSY, Fields
from pagemill.backends.paged.architectures.plain import (
    LAYER_TYPES,
    head_dim,
    plain_decoder,
    sliding_layers,
    with_attention,
    with_biases,
    with_windows,
)
from pagemill.backends.paged.architectures.rope_fields import rope_config, rope_object
from pagemill.backends.paged.config import DecoderConfig, RopeConfig


def gemma2(fields: Fields) -> DecoderConfig:
    config = with_attention(_gemma(fields), soft_cap=fields.optional_number("attn_logit_softcapping"))
    return with_windows(
        config,
        fields.optional_integer("sliding_window"),
        sliding_layers(fields, [layer % 2 == 0 for layer in range(config.num_layers)]),
    )


def gemma3(fields: Fields) -> DecoderConfig:
    """Sliding layers rotate by another base than the others, and without scaling."""
    fields.expect("attn_logit_softcapping", None)
    full, local = _gemma3_ropes(fields)
    config = replace(_gemma(fields, full), qk_norm="head")
    pattern = fields.integer("sliding_window_pattern", fields.raw("_sliding_window_pattern") or 6)
    slides = sliding_layers(fields, [bool((layer + 1) % pattern) for layer in range(config.num_layers)])
    config = with_windows(config, fields.optional_integer("sliding_window"), slides)
    layers = (
        replace(layer, rope=local) if sliding else layer for layer, sliding in zip(config.layers, slides, strict=True)
    )
    return replace(config, layers=tuple(layers))


def _gemma3_ropes(fields: Fields) -> tuple[RopeConfig, RopeConfig]:
    """Of the layers that see everything, and of those that slide."""
    theta, local_theta = fields.number("rope_theta"), fields.number("rope_local_base_freq")
    size, scaling = head_dim(fields), rope_object(fields)
    if not any(kind in scaling for kind in LAYER_TYPES):
        return (
            rope_config(fields, scaling, scaling.number("rope_theta", theta), size, {}),
            RopeConfig(theta=local_theta, rotary_dim=size),
        )
    ropes = []
    for kind, default in zip(LAYER_TYPES, (theta, local_theta), strict=True):
        own = scaling.nested(kind) if scaling.raw(kind) else Fields({}, f"rope_parameters.{kind}.")
        ropes.append(rope_config(fields, own, own.number("rope_theta", default), size, {}))
    for name in scaling.unread():
        scaling.refuse(name.rpartition(".")[2], "is no type of layer that is supported")
    return ropes[0], ropes[1]


def _gemma(fields: Fields, rope: RopeConfig | None = None) -> DecoderConfig:
    """What Gemma 2 and 3 share."""
    fields.expect("use_bidirectional_attention", *FALSY)
    fields.raw("hidden_act")  # an older name; transformers, too, goes by hidden_activation
    config = replace(
        with_biases(plain_decoder(fields, rope, activation="hidden_activation"), fields),
        norm_placement="around",
        norm_plus_one=True,
        embedding_multiplier=fields.integer("hidden_size") ** 0.5,
        round_embedding_multiplier=True,
        logits_soft_cap=fields.optional_number("final_logit_softcapping"),
    )
    return with_attention(config, scale=fields.number("query_pre_attn_scalar") ** -0.5)
