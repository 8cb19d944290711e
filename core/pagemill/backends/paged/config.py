"""What a decoder-only transformer is made of: the generic decoder's configuration. Owns no state.

`architectures/` makes one from a checkpoint's config.json; `decoder` builds the model of it. All that tells one family
from another is a field here, so that the decoder has no family's name in it.
"""

from dataclasses import dataclass
from typing import Literal

from pagemill.backends.paged.attention.base import AttentionSpec
from pagemill.backends.paged.ops.base import Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearScaling:
    """Positions divided by a factor (Chen et al. 2023, arXiv:2306.15595)."""

    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicScaling:
    """NTK-aware: a larger base for longer sequences, none within the context of the training."""

    factor: float
    original_max_positions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama3Scaling:
    """Long wavelengths stretched, short ones kept, those between blended (Llama 3.1)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class YarnScaling:
    """Peng et al. 2023, arXiv:2309.00071."""

    factor: float
    attention_factor: float  # of cosines and sines
    beta_fast: float
    beta_slow: float
    truncate: bool  # whether the ramp's ends are whole dimensions
    original_max_positions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LongRopeScaling:
    """A factor for each frequency: one set within the context of the training, another beyond (Ding et al. 2024,
    arXiv:2402.13753).
    """

    short_factors: tuple[float, ...]
    long_factors: tuple[float, ...]
    attention_factor: float
    original_max_positions: int


RopeScaling = LinearScaling | DynamicScaling | Llama3Scaling | YarnScaling | LongRopeScaling


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeConfig:
    """Rotary embedding: its frequencies, and how they are stretched beyond the context of the training."""

    theta: float
    rotary_dim: int  # of head_dim; the rest is not rotated
    scaling: RopeScaling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoEConfig:
    """A sparse mixture of experts in place of the MLP."""

    num_experts: int
    num_experts_per_token: int
    intermediate_size: int  # of each expert
    normalize_weights: bool  # whether the chosen experts' weights are scaled to sum to one


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerConfig:
    """One layer. Layers of one model may differ (Gemma's windows alternate, SmolLM3 leaves out positions in some)."""

    attention: AttentionSpec
    rope: RopeConfig | None
    moe: MoEConfig | None = None  # None: a dense MLP


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """See the module. Sizes are numbers of elements."""

    model_type: str  # as config.json has it
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int  # the context that the model was made for, in tokens
    layers: tuple[LayerConfig, ...]
    norm_eps: float
    activation: Activation
    norm_placement: Literal["before", "after", "around"] = (
        "before"  # of attention and MLP; "after" is OLMo-2, "around" Gemma
    )
    norm_plus_one: bool = False  # the checkpoint stores weight - 1 (Gemma)
    qk_norm: Literal["none", "head", "all"] = (
        "none"  # over each head (Qwen3, Gemma 3), or over all heads at once (OLMo-2)
    )
    qkv_bias: bool = False
    output_bias: bool = False  # of attention's output projection
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    embedding_multiplier: float = 1.0
    round_embedding_multiplier: bool = False  # to the model's dtype before it multiplies (Gemma)
    residual_multiplier: float = 1.0  # of what attention and MLP add
    logits_divisor: float = 1.0
    logits_soft_cap: float | None = None

    @property
    def num_layers(self) -> int:
        return len(self.layers)
