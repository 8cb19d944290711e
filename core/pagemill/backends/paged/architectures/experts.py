"""The families with a mixture of experts. Each function reads its family's config.json. Owns no state."""

from dataclasses import replace

from pagemill.backends.paged.architectures.fields import Fields
from pagemill.backends.paged.architectures.plain import (
    plain_decoder,
    refuse_biases,
    refuse_layer_types,
    switched_window,
    with_biases,
    with_windows,
)
from pagemill.backends.paged.config import DecoderConfig, MoEConfig


def mixtral(fields: Fields) -> DecoderConfig:
    refuse_layer_types(fields)
    config = refuse_biases(plain_decoder(fields), fields)
    config = with_windows(config, fields.optional_integer("sliding_window"), [True] * config.num_layers)
    moe = MoEConfig(
        num_experts=fields.integer("num_local_experts", fields.raw("num_experts")),
        num_experts_per_token=fields.integer("num_experts_per_tok"),
        intermediate_size=config.intermediate_size,
        normalize_weights=True,
    )
    return replace(config, layers=tuple(replace(layer, moe=moe) for layer in config.layers))


def qwen3_moe(fields: Fields) -> DecoderConfig:
    refuse_layer_types(fields)
    config = replace(with_biases(plain_decoder(fields), fields), qk_norm="head")
    config = with_windows(config, switched_window(fields), [True] * config.num_layers)
    moe = MoEConfig(
        num_experts=fields.integer("num_experts", fields.raw("num_local_experts")),
        num_experts_per_token=fields.integer("num_experts_per_tok"),
        intermediate_size=fields.integer("moe_intermediate_size"),
        normalize_weights=fields.flag("norm_topk_prob"),
    )
    dense, step = fields.raw("mlp_only_layers") or (), fields.integer("decoder_sparse_step")
    layers = tuple(
        layer if index in dense or (index + 1) % step else replace(layer, moe=moe)
        for index, layer in enumerate(config.layers)
    )
    return replace(config, layers=layers)
