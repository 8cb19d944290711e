"""config.json to a decoder's configuration: both forms of it, what it leaves out, and what is refused."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest
from transformers import AutoConfig

from pagemill.backends.paged.architectures import UnknownArchitectureError, read_architecture
from pagemill.backends.paged.config import DecoderConfig, LinearScaling, LongRopeScaling, RopeConfig, YarnScaling
from pagemill.errors import ModelLoadError
from support.model_zoo import DECODERS

SIZES: Mapping[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "num_key_value_heads": 16,
}
EXPERTS: Mapping[str, Mapping[str, Any]] = {
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
}
FAMILIES = (
    "llama mistral qwen2 qwen3 gemma2 gemma3_text phi3 granite olmo2 smollm3 mixtral qwen3_moe".split()  # noqa: SIM905
)
SOFT_CAPS = {"gemma2": (50.0, 30.0)}  # attention's and the logits', by default


def config_of(model_type: str = "llama", **changes: object) -> dict[str, Any]:
    return {**SIZES, **EXPERTS.get(model_type, {}), "model_type": model_type, **changes}


def read(model_type: str = "llama", **changes: object) -> DecoderConfig:
    return read_architecture(config_of(model_type, **changes)).config


def old_form(config: Mapping[str, Any]) -> dict[str, Any]:
    """As transformers 4 wrote it."""
    values = dict(config)
    rope = dict(values.pop("rope_parameters"))
    values["torch_dtype"] = values.pop("dtype")
    if "full_attention" in rope:
        local, rope = dict(rope["sliding_attention"]), dict(rope["full_attention"])
        values["rope_local_base_freq"] = local["rope_theta"]
    values["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        values["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    kind = rope.pop("rope_type")
    values["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    return values


@pytest.mark.parametrize("name", DECODERS)
def test_both_forms_of_a_configuration_mean_the_same(name: str) -> None:
    config = DECODERS[name].config().to_dict()
    config["dtype"] = "float32"
    old = old_form(config)
    assert read_architecture(config) == read_architecture(old)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_what_a_configuration_leaves_out_is_what_transformers_takes_for_it(model_type: str) -> None:
    config, theirs = read(model_type), AutoConfig.for_model(**config_of(model_type))
    ropes = theirs.rope_parameters
    assert config.tie_word_embeddings == theirs.tie_word_embeddings
    assert config.norm_eps == theirs.rms_norm_eps
    assert config.head_dim == (getattr(theirs, "head_dim", None) or 4)
    assert (config.layers[0].attention.soft_cap, config.logits_soft_cap) == SOFT_CAPS.get(model_type, (None, None))
    windows = getattr(theirs, "layer_types", None) or ["sliding_attention"] * 8
    for layer, kind in zip(config.layers, windows, strict=True):
        window = getattr(theirs, "sliding_window", None) if kind == "sliding_attention" else None
        assert layer.attention.sliding_window == window
        assert layer.rope is None or layer.rope.theta == ropes.get(kind, ropes)["rope_theta"]


def test_number_of_key_value_heads_is_that_of_heads_where_it_is_left_out() -> None:
    config = config_of()
    del config["num_key_value_heads"]
    assert read_architecture(config).config.num_kv_heads == 16


def test_text_model_of_a_multimodal_configuration_is_read_from_within() -> None:
    text: dict[str, object] = {"model_type": "gemma3_text", "num_hidden_layers": 34, "sliding_window": 1024}
    text |= {"hidden_size": 2560, "intermediate_size": 10240, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
    outer = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16"}
    values = {**outer, "text_config": text, "vision_config": {"hidden_size": 1152}}
    config = read_architecture(values).config
    assert (config.num_layers, config.hidden_size, config.head_dim, config.vocab_size) == (34, 2560, 256, 262208)
    assert (config.num_heads, config.num_kv_heads, config.tie_word_embeddings) == (8, 4, True)
    assert config.layers[0].rope == RopeConfig(theta=10000.0, rotary_dim=256)
    assert config.layers[5].rope == RopeConfig(theta=1e6, rotary_dim=256, scaling=LinearScaling(factor=8.0))
    assert [layer.attention.sliding_window for layer in config.layers[:6]] == [1024] * 5 + [None]


def test_qwen_with_a_sliding_window_that_is_switched_off_has_none() -> None:
    assert all(layer.attention.sliding_window is None for layer in read("qwen2", sliding_window=8).layers)
    on = read("qwen2", sliding_window=8, use_sliding_window=True, max_window_layers=6)
    assert [layer.attention.sliding_window for layer in on.layers] == [None] * 6 + [8] * 2


def test_experts_are_where_the_configuration_wants_them() -> None:
    config = read("qwen3_moe", mlp_only_layers=[3], decoder_sparse_step=2)
    assert [layer.moe is not None for layer in config.layers] == [False, True, False, False] + [False, True] * 2
    assert all(layer.moe is not None and layer.moe.normalize_weights for layer in read("mixtral").layers)


def test_yarn_leaves_its_factors_to_the_context_lengths() -> None:
    rope = read(rope_scaling={"type": "yarn", "original_max_position_embeddings": 512}).layers[0].rope
    assert rope is not None
    assert isinstance(rope.scaling, YarnScaling)
    assert rope.scaling.factor == 4.0
    assert rope.scaling.attention_factor == pytest.approx(1.1386294)


@pytest.mark.parametrize("kind", ["su", "yarn", "longrope"])
def test_phi3_has_three_names_for_longrope(kind: str) -> None:
    scaling = {"type": kind, "short_factor": [1.0, 1.5], "long_factor": [2, 3]}
    rope = read("phi3", original_max_position_embeddings=512, rope_scaling=scaling).layers[0].rope
    assert rope is not None
    assert isinstance(rope.scaling, LongRopeScaling)
    assert rope.scaling.long_factors == (2.0, 3.0)


def test_unknown_model_type_has_an_error_of_its_own() -> None:
    with pytest.raises(UnknownArchitectureError, match="model_type='stablelm'"):
        read("stablelm")


@pytest.mark.parametrize(
    ("model_type", "changes", "words"),
    [
        ("llama", {"pretraining_tp": 2}, "pretraining_tp=2"),
        ("llama", {"hidden_act": "relu"}, "hidden_act='relu'"),
        ("llama", {"sliding_window": 512}, "sliding_window=512"),
        ("llama", {"layer_types": ["full_attention", "sliding_attention"] * 4}, "layer_types="),
        ("llama", {"quantization_config": {"quant_method": "awq"}}, "quantization_config=.*awq"),
        ("llama", {"is_encoder_decoder": True}, "is_encoder_decoder=True"),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads=3 does not divide num_attention_heads=16"),
        ("llama", {"num_hidden_layers": None}, "num_hidden_layers=None is not a positive integer"),
        ("llama", {"hidden_size": "64"}, "hidden_size='64' is not a positive integer"),
        ("llama", {"rms_norm_eps": "small"}, "rms_norm_eps='small' is not a number"),
        ("llama", {"tie_word_embeddings": 1}, "tie_word_embeddings=1 is neither true nor false"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ("llama", {"rope_scaling": {"type": "mrope", "mrope_section": [1]}}, "rope_scaling.type='mrope'"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "rope_scaling.factor=None is not a number"),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2, "mystery": 1}}, "rope_scaling.mystery=1"),
        ("llama", {"rope_parameters": "default"}, "rope_parameters='default' is not an object"),
        ("mistral", {"attention_bias": True}, "attention_bias=True"),
        ("qwen2", {"use_mrope": True}, "use_mrope=True"),
        ("qwen3", {"layer_types": ["linear_attention"] * 8}, "layer_types=.*supported are full_attention"),
        ("qwen3", {"layer_types": ["full_attention"]}, "layer_types=.*is not a list of 8"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0"),
        ("gemma3_text", {"rope_parameters": {"full_attention": {}, "chunked_attention": {}}}, "chunked_attention={}"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        ("olmo2", {"clip_qkv": 8.0}, "clip_qkv=8.0"),
        ("phi3", {"rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1]}}, "short_factor=.1."),
        ("smollm3", {"no_rope_layers": [1, 2] * 4}, "no_rope_layers=.*is not a list of truth values"),
        ("gemma3", {}, "text_config=None is not an object"),
    ],
)
def test_field_that_is_not_honoured_is_named_with_its_value(model_type: str, changes: object, words: str) -> None:
    assert isinstance(changes, dict)
    with pytest.raises(ModelLoadError, match=words):
        read(model_type, **changes)


def test_fields_that_nothing_is_known_of_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read(mystery=1, _private=2, initializer_range=0.02)
    assert caplog.messages == ["config.json: fields that nothing is known of: mystery"]
