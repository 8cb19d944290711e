"""The plain decoder, Llama without any option, and the changes that several families make to it. Owns no state."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pagemill.backends.paged.architectures.fields import FALSY, Fields
from pagemill.backends.paged.architectures.rope_fields import read_rope
from pagemill.backends.paged.attention.base import AttentionSpec
from pagemill.backends.paged.config import DecoderConfig, LayerConfig, RopeConfig
from pagemill.backends.paged.ops.base import Activation

ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
LAYER_TYPES = ("full_attention", "sliding_attention")


def plain_decoder(fields: Fields, rope: RopeConfig | None = None, activation: str = "hidden_act") -> DecoderConfig:
    """A decoder whose layers are all alike: full attention, a dense MLP. `rope`: where it is not the usual one.
    `activation`: the field that names it.
    """
    num_heads, size = fields.integer("num_attention_heads"), head_dim(fields)
    layer = LayerConfig(attention=AttentionSpec(size**-0.5), rope=rope or read_rope(fields, size))
    if fields.raw(activation) not in ACTIVATIONS:
        fields.refuse(activation, f"is not supported; supported are {', '.join(ACTIVATIONS)}")
    fields.expect("is_encoder_decoder", *FALSY)
    fields.expect("add_cross_attention", *FALSY)
    fields.expect("quantization_config", None)
    return DecoderConfig(
        model_type=fields.raw("model_type"),
        vocab_size=fields.integer("vocab_size"),
        hidden_size=fields.integer("hidden_size"),
        intermediate_size=fields.integer("intermediate_size"),
        num_heads=num_heads,
        num_kv_heads=_num_kv_heads(fields, num_heads),
        head_dim=size,
        max_position_embeddings=fields.integer("max_position_embeddings"),
        layers=(layer,) * fields.integer("num_hidden_layers"),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        activation=ACTIVATIONS[fields.raw(activation)],
        tie_word_embeddings=fields.flag("tie_word_embeddings"),
    )


def head_dim(fields: Fields) -> int:
    return fields.integer("head_dim", fields.integer("hidden_size") // fields.integer("num_attention_heads"))


def _num_kv_heads(fields: Fields, num_heads: int) -> int:
    num_kv_heads = fields.integer("num_key_value_heads", num_heads)
    if num_heads % num_kv_heads:
        fields.refuse("num_key_value_heads", f"does not divide num_attention_heads={num_heads}")
    return num_kv_heads


def with_attention(config: DecoderConfig, **changes: Any) -> DecoderConfig:
    """Change every layer's `AttentionSpec`."""
    layers = (replace(layer, attention=replace(layer.attention, **changes)) for layer in config.layers)
    return replace(config, layers=tuple(layers))


def with_windows(config: DecoderConfig, window: int | None, slides: Sequence[bool]) -> DecoderConfig:
    """Let some layers see only `window` positions."""
    layers = tuple(
        replace(layer, attention=replace(layer.attention, sliding_window=window)) if sliding else layer
        for layer, sliding in zip(config.layers, slides, strict=True)
    )
    return replace(config, layers=layers)


def sliding_layers(fields: Fields, default: Sequence[bool]) -> Sequence[bool]:
    """Which layers slide, by `layer_types` where config.json has it."""
    if fields.raw("layer_types") is None:
        return default
    return [kind == LAYER_TYPES[1] for kind in fields.choices("layer_types", len(default), LAYER_TYPES)]


def switched_window(fields: Fields) -> int | None:
    """The window of families that have a switch for it beside its size."""
    window = fields.optional_integer("sliding_window")
    return window if fields.flag("use_sliding_window") else None


def refuse_layer_types(fields: Fields) -> None:
    """The family has one kind of layer; transformers ignores `layer_types` there, whatever the author meant."""
    types = fields.raw("layer_types")
    if types is not None and len(set(types)) > 1:
        fields.refuse("layer_types", "is not supported for this model_type")


def with_biases(config: DecoderConfig, fields: Fields) -> DecoderConfig:
    attention = fields.flag("attention_bias")
    return replace(config, qkv_bias=attention, output_bias=attention, mlp_bias=fields.flag("mlp_bias"))


def refuse_biases(config: DecoderConfig, fields: Fields) -> DecoderConfig:
    for name in ("attention_bias", "mlp_bias", "lm_head_bias"):
        fields.expect(name, *FALSY)
    return config
