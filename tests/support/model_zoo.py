"""Tiny models of every architecture that the paged backend runs, each with whatever sets it apart turned on."""

from collections.abc import Mapping

from support.tiny_safetensors import TinyModel

CONTEXT = 1024  # that the tiny models were made for


def _rope(kind: str, **parameters: object) -> dict[str, object]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **parameters}}


LONGROPE = {
    "short_factor": [1.0 + 0.1 * index for index in range(6)],
    "long_factor": [1.0 + 2.0 * index for index in range(6)],
    "partial_rotary_factor": 0.75,
}

DECODERS: Mapping[str, TinyModel] = {
    "llama": TinyModel(),
    "llama-tied": TinyModel(overrides={"tie_word_embeddings": True}),
    "llama-biases": TinyModel(overrides={"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4}),
    "llama-linear": TinyModel(overrides=_rope("linear", factor=4.0)),
    "llama-dynamic": TinyModel(overrides=_rope("dynamic", factor=4.0)),
    "llama-llama3": TinyModel(
        overrides=_rope(
            "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
        )
    ),
    "llama-yarn": TinyModel(overrides=_rope("yarn", factor=16.0, original_max_position_embeddings=64)),
    "llama-yarn-mscale": TinyModel(
        overrides=_rope(
            "yarn",
            factor=16.0,
            original_max_position_embeddings=64,
            mscale=1.2,
            mscale_all_dim=0.6,
            beta_fast=24.0,
            beta_slow=2.0,
            truncate=False,
        )
    ),
    "mistral": TinyModel(model_type="mistral"),
    "mistral-full": TinyModel(model_type="mistral", overrides={"sliding_window": None}),
    "qwen2": TinyModel(model_type="qwen2"),
    "qwen2-windows": TinyModel(
        model_type="qwen2", overrides={"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}
    ),
    "qwen3": TinyModel(model_type="qwen3"),
    "gemma2": TinyModel(model_type="gemma2", overrides={"query_pre_attn_scalar": 20}),
    "gemma3": TinyModel(model_type="gemma3_text", overrides={"query_pre_attn_scalar": 20}),
    "gemma3-scaled": TinyModel(
        model_type="gemma3_text",
        overrides={
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
            },
            "layer_types": ["sliding_attention", "full_attention"],
            "num_hidden_layers": 2,
            "final_logit_softcapping": 20.0,
        },
    ),
    "phi3": TinyModel(model_type="phi3", overrides={"sliding_window": 40}),
    "phi4-mini": TinyModel(
        model_type="phi3",
        overrides={
            "head_dim": 16,
            "tie_word_embeddings": True,
            "original_max_position_embeddings": 256,
            **_rope("longrope", **LONGROPE),
        },
    ),
    "granite": TinyModel(
        model_type="granite",
        overrides={
            "attention_multiplier": 0.15,
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.0,
            "residual_multiplier": 0.7,
        },
    ),
    "olmo2": TinyModel(model_type="olmo2"),
    "smollm3": TinyModel(model_type="smollm3"),
    "mixtral": TinyModel(model_type="mixtral"),
    "qwen3_moe": TinyModel(
        model_type="qwen3_moe",
        overrides={"num_hidden_layers": 4, "mlp_only_layers": [1], "decoder_sparse_step": 2, "norm_topk_prob": True},
    ),
    "qwen3_moe-unnormalized": TinyModel(model_type="qwen3_moe", overrides={"norm_topk_prob": False}),
}

# Architectures that run through transformers' own definition.
FOREIGN: Mapping[str, TinyModel] = {
    "stablelm": TinyModel(model_type="stablelm", overrides={"head_dim": 16}),
    "gpt_neox": TinyModel(model_type="gpt_neox"),
    "phi": TinyModel(model_type="phi", overrides={"head_dim": 16}),
    "cohere2": TinyModel(
        model_type="cohere2", overrides={"head_dim": 16, "sliding_window": 24, "num_hidden_layers": 4}
    ),
    "gpt2": TinyModel(model_type="gpt2", overrides={"scale_attn_by_inverse_layer_idx": True}),
    "deepseek_v3": TinyModel(
        model_type="deepseek_v3",
        overrides={
            "head_dim": 8,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 16,
            "v_head_dim": 16,
            "kv_lora_rank": 32,
            "q_lora_rank": 32,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "num_key_value_heads": 4,
        },
    ),
}
