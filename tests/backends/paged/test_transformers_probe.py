"""The probe that stands in for attention: what it accepts, and what it finds out."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pagemill.backends.paged.attention.base import AttentionSpec
from pagemill.backends.paged.model import KVShape
from pagemill.backends.paged.transformers_probe import AttentionCall, Probe, check_tokens_are_independent
from pagemill.errors import ModelLoadError

CPU = torch.device("cpu")


class SelfAttention:
    """As much of a module as the probe looks at."""

    def __init__(self, layer_idx: object = 0, **attributes: object) -> None:
        self.layer_idx = layer_idx
        self.__dict__.update(attributes)


def call(module: SelfAttention, *, key_dim: int = 16, mask: object = None, **arguments: Any) -> AttentionCall:
    query, key, value = torch.rand(1, 4, 3, 16), torch.rand(1, 2, 3, key_dim), torch.rand(1, 2, 3, 8)
    return AttentionCall(module, query, key, value, mask, arguments)


def test_it_finds_what_each_layer_asks_for() -> None:
    probe = Probe()
    probe.attend(call(SelfAttention(0), scaling=0.5, sliding_window=7, softcap=30.0, dropout=0.0))
    probe.attend(call(SelfAttention(1, sliding_window=9), is_causal=None, position_bias=None))
    assert probe.specs(2) == (AttentionSpec(0.5, 7, 30.0), AttentionSpec(0.25, 9))
    assert probe.kv_shape() == KVShape(2, 2, 16)


def test_its_answer_is_each_tokens_own_value_for_all_heads() -> None:
    made = call(SelfAttention())
    answer = Probe().attend(made)
    assert answer.shape == (1, 3, 4, 8)
    for head in range(4):
        assert torch.equal(answer[0, :, head], made.value[0, head // 2])


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (call(SelfAttention(None)), "layer_idx=None"),
        (call(SelfAttention(), mask=torch.ones(3, 3)), "masks attention in a way of its own"),
        (call(SelfAttention(), is_causal=False), "is not causal"),
        (call(SelfAttention(is_causal=False)), "is not causal"),
        (call(SelfAttention(), position_bias=torch.ones(3)), "passes position_bias"),
        (call(SelfAttention(), key_dim=12), "shapes"),
    ],
)
def test_what_our_attention_does_not_do_is_named(made: AttentionCall, words: str) -> None:
    with pytest.raises(ModelLoadError, match=f"SelfAttention.*{words}|{words}"):
        Probe().attend(made)


def test_keys_of_other_tokens_are_refused() -> None:
    made = call(SelfAttention())
    with pytest.raises(ModelLoadError, match="something else than the sequence itself"):
        Probe().attend(made._replace(key=made.key[:, :, :2]))


def test_two_attentions_of_one_layer_are_refused() -> None:
    probe = Probe()
    probe.attend(call(SelfAttention(0)))
    with pytest.raises(ModelLoadError, match="layer_idx=0"):
        probe.attend(call(SelfAttention(0)))


def test_layers_without_attention_are_refused() -> None:
    probe = Probe()
    probe.attend(call(SelfAttention(1)))
    with pytest.raises(ModelLoadError, match=r"layers \[0, 2\] keep their context in something else"):
        probe.specs(3)


def test_layers_whose_keys_differ_are_refused() -> None:
    probe = Probe()
    probe.attend(call(SelfAttention(0)))
    made = call(SelfAttention(1))
    probe.attend(made._replace(key=made.key.repeat(1, 2, 1, 1), value=made.value.repeat(1, 2, 1, 1)))
    with pytest.raises(ModelLoadError, match=r"layers differ.*\(2, 16\), \(4, 16\)"):
        probe.kv_shape()


def _states(token_ids: Tensor, positions: Tensor, probe: Probe) -> Tensor:
    return torch.stack((token_ids.sin(), positions.cos()), dim=1)


def test_tokens_that_depend_on_themselves_and_their_position_are_independent() -> None:
    check_tokens_are_independent(_states, CPU)


def test_what_is_carried_from_token_to_token_is_seen() -> None:
    with pytest.raises(ModelLoadError, match="carries something from token to token"):
        check_tokens_are_independent(lambda *step: _states(*step).cumsum(0), CPU)
