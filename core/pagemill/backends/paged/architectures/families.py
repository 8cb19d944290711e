"""The table of families: for each model_type its reader, its tensors' names and its defaults. Owns no state.

The defaults are transformers' own for the fields that published checkpoints leave out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pagemill.backends.paged.architectures import dense, experts, gemma, names
from pagemill.backends.paged.architectures.fields import Fields
from pagemill.backends.paged.architectures.names import TensorNames
from pagemill.backends.paged.config import DecoderConfig

QWEN = {"sliding_window": 4096, "max_window_layers": 28}
GEMMA = {
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_attention_heads": 8,
    "num_hidden_layers": 26,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}
GEMMA2 = GEMMA | {
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "max_position_embeddings": 8192,
    "vocab_size": 256000,
}
GEMMA3 = GEMMA | {
    "max_position_embeddings": 131072,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "vocab_size": 262208,
}


@dataclass(frozen=True, slots=True)
class Family:
    """What is known of one model_type."""

    read: Callable[[Fields], DecoderConfig]
    names: TensorNames = names.LLAMA
    defaults: Mapping[str, Any] = field(default_factory=dict)
    nested: str | None = None  # the object of config.json that holds the language model's fields


FAMILIES: Mapping[str, Family] = {
    "gemma2": Family(gemma.gemma2, names.GEMMA, GEMMA2),
    "gemma3": Family(gemma.gemma3, names.GEMMA, GEMMA3, nested="text_config"),
    "gemma3_text": Family(gemma.gemma3, names.GEMMA, GEMMA3),
    "granite": Family(dense.granite),
    "llama": Family(dense.llama),
    "mistral": Family(dense.mistral, defaults={"num_key_value_heads": 8, "sliding_window": 4096}),
    "mixtral": Family(
        experts.mixtral,
        names.MIXTRAL,
        {"num_experts_per_tok": 2, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0},
    ),
    "olmo2": Family(dense.olmo2, defaults={"rms_norm_eps": 1e-5}),
    "phi3": Family(dense.phi3, names.PHI3, {"original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5}),
    "qwen2": Family(dense.qwen2, defaults=QWEN),
    "qwen3": Family(dense.qwen3, defaults=QWEN | {"head_dim": 128}),
    "qwen3_moe": Family(experts.qwen3_moe, defaults={"decoder_sparse_step": 1, "sliding_window": 4096}),
    "smollm3": Family(
        dense.smollm3,
        defaults={
            "no_rope_layer_interval": 4,
            "num_key_value_heads": 4,
            "rope_theta": 2000000.0,
            "tie_word_embeddings": True,
        },
    ),
}
