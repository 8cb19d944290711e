"""Llama and the families that are near it. Each function reads its family's config.json. Owns no state."""

from dataclasses import replace

from pagemill.backends.paged.architectures.fields import FALSY, Fields
from pagemill.backends.paged.architectures.plain import (
    head_dim,
    plain_decoder,
    refuse_biases,
    refuse_layer_types,
    sliding_layers,
    switched_window,
    with_attention,
    with_biases,
    with_windows,
)
from pagemill.backends.paged.architectures.rope_fields import read_rope
from pagemill.backends.paged.config import DecoderConfig


def llama(fields: Fields) -> DecoderConfig:
    fields.expect("pretraining_tp", 1)
    fields.expect("sliding_window", None)
    refuse_layer_types(fields)
    return with_biases(plain_decoder(fields), fields)


def mistral(fields: Fields) -> DecoderConfig:
    refuse_layer_types(fields)
    config = refuse_biases(plain_decoder(fields), fields)
    return with_windows(config, fields.optional_integer("sliding_window"), [True] * config.num_layers)


def qwen2(fields: Fields) -> DecoderConfig:
    fields.expect("use_mrope", *FALSY)
    config = replace(plain_decoder(fields), qkv_bias=True)
    return _qwen_windows(config, fields)


def qwen3(fields: Fields) -> DecoderConfig:
    config = replace(with_biases(plain_decoder(fields), fields), qk_norm="head")
    return _qwen_windows(config, fields)


def _qwen_windows(config: DecoderConfig, fields: Fields) -> DecoderConfig:
    """The layers from `max_window_layers` on slide, if any do."""
    first = fields.raw("max_window_layers")
    slides = sliding_layers(fields, [layer >= first for layer in range(config.num_layers)])
    return with_windows(config, switched_window(fields), slides)


def phi3(fields: Fields) -> DecoderConfig:
    refuse_layer_types(fields)
    fields.raw("original_max_position_embeddings")  # has a default, and no meaning without a scaling
    rope = read_rope(fields, head_dim(fields), partial=True, aliases={"su": "longrope", "yarn": "longrope"})
    for name in ("full_attn_mod", "interpolate_factor"):  # of the published code, not of transformers
        fields.expect(name, 1)
    config = refuse_biases(plain_decoder(fields, rope), fields)
    return with_windows(config, fields.optional_integer("sliding_window"), [True] * config.num_layers)


def granite(fields: Fields) -> DecoderConfig:
    refuse_layer_types(fields)
    config = replace(
        with_biases(plain_decoder(fields), fields),
        embedding_multiplier=fields.number("embedding_multiplier", 1.0),
        residual_multiplier=fields.number("residual_multiplier", 1.0),
        logits_divisor=fields.number("logits_scaling", 1.0),
    )
    return with_attention(config, scale=fields.number("attention_multiplier", 1.0))


def olmo2(fields: Fields) -> DecoderConfig:
    refuse_layer_types(fields)
    fields.expect("clip_qkv", None)
    return replace(with_biases(plain_decoder(fields), fields), norm_placement="after", qk_norm="all")


def smollm3(fields: Fields) -> DecoderConfig:
    fields.raw("pretraining_tp")  # published configurations say 2; it is a way of training there
    config = with_biases(plain_decoder(fields), fields)
    interval = fields.integer("no_rope_layer_interval")
    rotated = [bool((layer + 1) % interval) for layer in range(config.num_layers)]
    if fields.raw("no_rope_layers") is not None:
        rotated = list(fields.flags("no_rope_layers", config.num_layers))
    config = with_windows(config, switched_window(fields), sliding_layers(fields, [not rotates for rotates in rotated]))
    layers = (
        layer if rotates else replace(layer, rope=None) for layer, rotates in zip(config.layers, rotated, strict=True)
    )
    return replace(config, layers=tuple(layers))
