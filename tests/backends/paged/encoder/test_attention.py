"""A step's attention: sequence by sequence what torch's own makes of each alone.

varlen_attn has no CPU kernel: one that follows its documentation stands in for it here, and `tests/gpu` runs the real.
"""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import varlen

from pagemill.backends.paged.encoder.attention import (
    EncoderAttention,
    RunAttention,
    VarlenAttention,
    make_encoder_attention,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LENGTHS = (1, 2, 2, 2, 7, 30, 30)
HEADS, HEAD_DIM = 4, 16


def documented_varlen_attn(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int
) -> Tensor:
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert max_q == max_k == int(cu_seq_q.diff().max())
    assert torch.equal(cu_seq_q, cu_seq_k)
    bounds = cu_seq_q.tolist()
    assert bounds[-1] == len(query) == len(key) == len(value)
    outputs = []
    for start, end in itertools.pairwise(bounds):
        part = [states[start:end].transpose(0, 1) for states in (query, key, value)]
        outputs.append(functional.scaled_dot_product_attention(part[0], part[1], part[2]).transpose(0, 1))
    return torch.cat(outputs)


def random_qkv(lengths: Sequence[int]) -> Tensor:
    return torch.randn((sum(lengths), 3, HEADS, HEAD_DIM), generator=torch.Generator().manual_seed(0))


def one_by_one(qkv: Tensor, lengths: Sequence[int]) -> Tensor:
    outputs = []
    for part in torch.split(qkv, list(lengths)):
        query, key, value = part.permute(1, 2, 0, 3)  # each [num_heads, length, head_dim]
        scores = (query @ key.transpose(1, 2)) / HEAD_DIM**0.5
        outputs.append((scores.softmax(-1) @ value).transpose(0, 1).flatten(1))
    return torch.cat(outputs)


@pytest.mark.parametrize(
    "attention", [RunAttention(None), VarlenAttention(documented_varlen_attn)], ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize("lengths", [LENGTHS, (5,), (3, 3, 3)], ids=str)
def test_each_sequence_attends_to_itself_alone(attention: EncoderAttention, lengths: Sequence[int]) -> None:
    qkv = random_qkv(lengths)
    attend = attention.plan(lengths, CPU)
    for layer in (qkv, qkv + 1):  # the plan serves all layers of a step
        torch.testing.assert_close(attend(layer), one_by_one(layer, lengths), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({}, VarlenAttention),
        ({"dtype": torch.float32}, RunAttention),
        ({"device": CPU}, RunAttention),
        ({"head_dim": 20}, RunAttention),
        ({"head_dim": 264}, RunAttention),
        ({"bias": lambda length: torch.zeros(HEADS, length, length)}, RunAttention),
    ],
)
def test_a_step_is_one_call_where_torchs_kernel_does_what_the_model_needs(
    changed: dict[str, object], kind: type[EncoderAttention], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    asked = {"bias": None, "head_dim": 64, "dtype": torch.bfloat16, "device": CUDA, **changed}
    assert isinstance(make_encoder_attention(**asked), kind)  # type: ignore[arg-type]


def test_older_gpus_and_torches_have_a_call_for_each_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    asked = {"head_dim": 64, "dtype": torch.float16, "device": CUDA}
    assert isinstance(make_encoder_attention(None, **asked), RunAttention)  # type: ignore[arg-type]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.delattr(varlen, "varlen_attn")
    assert isinstance(make_encoder_attention(None, **asked), RunAttention)  # type: ignore[arg-type]


def test_a_bias_is_added_to_the_scores() -> None:
    qkv = random_qkv((4, 4))

    def bias(length: int) -> Tensor:
        return torch.full((HEADS, length, length), -1e9).masked_fill(torch.eye(length, dtype=torch.bool), 0)

    own_values = qkv[:, 2].flatten(1)  # which is what each token sees of nothing but itself
    torch.testing.assert_close(RunAttention(bias).plan((4, 4), CPU)(qkv), own_values)
