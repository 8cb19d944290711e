"""Tables of rotary embedding, where parity of whole models does not reach: beyond the context of the training."""

import pytest
import torch
from transformers import LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from pagemill.backends.paged.config import DynamicScaling, LongRopeScaling, RopeConfig, YarnScaling
from pagemill.backends.paged.rope import attention_factor, frequencies, rope_table

CPU = torch.device("cpu")
LONGROPE = LongRopeScaling(
    short_factors=(1.0, 1.1, 1.2, 1.3),
    long_factors=(1.0, 4.0, 9.0, 16.0),
    attention_factor=1.2,
    original_max_positions=64,
)


def test_table_has_cosines_then_sines_of_every_position() -> None:
    table = rope_table(RopeConfig(theta=100.0, rotary_dim=4), 3, CPU)
    angles = torch.tensor([[0.0, 0.0], [1.0, 0.1], [2.0, 0.2]])
    assert table.dtype == torch.float32
    torch.testing.assert_close(table, torch.cat((angles.cos(), angles.sin()), dim=1))


@pytest.mark.parametrize("max_model_len", [64, 100, 256])
def test_dynamic_scaling_is_that_of_transformers_for_the_longest_sequence_served(max_model_len: int) -> None:
    rope = RopeConfig(theta=10000.0, rotary_dim=8, scaling=DynamicScaling(factor=4.0, original_max_positions=64))
    parameters = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    config = LlamaConfig(hidden_size=8, num_attention_heads=1, max_position_embeddings=64, rope_parameters=parameters)
    expected, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, CPU, seq_len=max_model_len)
    torch.testing.assert_close(frequencies(rope, max_model_len), expected)


@pytest.mark.parametrize("max_model_len", [64, 65])
def test_longrope_takes_long_factors_only_beyond_the_context_of_the_training(max_model_len: int) -> None:
    rope = RopeConfig(theta=10000.0, rotary_dim=8, scaling=LONGROPE)
    config = Phi3Config(
        hidden_size=8,
        num_attention_heads=1,
        original_max_position_embeddings=64,
        max_position_embeddings=256,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": list(LONGROPE.short_factors),
            "long_factor": list(LONGROPE.long_factors),
            "factor": 4.0,
        },
    )
    expected, _ = ROPE_INIT_FUNCTIONS["longrope"](config, CPU, seq_len=max_model_len)
    torch.testing.assert_close(frequencies(rope, max_model_len), expected)


def test_attention_factor_multiplies_cosines_and_sines() -> None:
    plain, scaled = RopeConfig(theta=10000.0, rotary_dim=8), RopeConfig(theta=10000.0, rotary_dim=8, scaling=LONGROPE)
    assert (attention_factor(plain), attention_factor(scaled)) == (1.0, 1.2)
    assert rope_table(scaled, 2, CPU)[0].tolist() == pytest.approx([1.2] * 4 + [0.0] * 4)


def test_yarn_whose_ramp_has_no_width_is_finite() -> None:
    scaling = YarnScaling(
        factor=4.0, attention_factor=1.0, beta_fast=2.0, beta_slow=2.0, truncate=False, original_max_positions=64
    )
    assert frequencies(RopeConfig(theta=10000.0, rotary_dim=8, scaling=scaling), 256).isfinite().all()
