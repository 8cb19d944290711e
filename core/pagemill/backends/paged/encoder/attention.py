"""Attention in both directions within each sequence of a step, without padding. Owns no state.

Sequences come in order of their lengths, so those of one length are neighbours: each run of them is one call of torch's
attention. On a GPU, where calls cost more than what they compute, all of a step is one call of FlashAttention instead.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from pagemill.backends.paged.device import is_old_gpu
from pagemill.backends.paged.encoder.config import RelativePositions

Bias = Callable[[int], Tensor]  # of a length: [num_heads, length, length], added to the scores
# From queries, keys and values [num_tokens, 3, num_heads, head_dim] to [num_tokens, num_heads * head_dim].
StepAttention = Callable[[Tensor], Tensor]

VARLEN_DTYPES = (torch.float16, torch.bfloat16)
VARLEN_HEAD_DIM_MULTIPLE = 8
VARLEN_MAX_HEAD_DIM = 256


class EncoderAttention(Protocol):
    """What a model attends with."""

    def plan(self, lengths: Sequence[int], device: torch.device) -> StepAttention:
        """The attention of all layers in a step of sequences of these lengths, in order, one after the other."""
        ...


class RunAttention:
    """A call for each length."""

    def __init__(self, bias: Bias | None) -> None:
        self._bias = bias

    def plan(self, lengths: Sequence[int], device: torch.device) -> StepAttention:
        runs = [
            (start, count, length, None if self._bias is None else self._bias(length))
            for start, count, length in _runs(lengths)
        ]

        def attend(qkv: Tensor) -> Tensor:
            num_tokens, _, num_heads, head_dim = qkv.shape
            output = torch.empty((num_tokens, num_heads, head_dim), dtype=qkv.dtype, device=qkv.device)
            for start, count, length, bias in runs:
                end = start + count * length
                query, key, value = qkv[start:end].view(count, length, 3, num_heads, head_dim).permute(2, 0, 3, 1, 4)
                attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
                output[start:end].view(count, length, num_heads, head_dim).copy_(attended.transpose(1, 2))
            return output.view(num_tokens, num_heads * head_dim)

        return attend


class VarlenAttention:
    """One call, of `torch.nn.attention.varlen.varlen_attn`."""

    def __init__(self, varlen_attn: Callable[..., Any]) -> None:
        self._varlen_attn = varlen_attn

    def plan(self, lengths: Sequence[int], device: torch.device) -> StepAttention:
        starts = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32).to(device)
        longest = lengths[-1]

        def attend(qkv: Tensor) -> Tensor:
            output: Tensor = self._varlen_attn(*qkv.unbind(1), starts, starts, longest, longest)
            return output.flatten(1)

        return attend


def make_encoder_attention(
    bias: Bias | None, *, head_dim: int, dtype: torch.dtype, device: torch.device
) -> EncoderAttention:
    """In one call where torch, the GPU and the model allow it."""
    if device.type != "cuda" or is_old_gpu(device):
        return RunAttention(bias)
    fits = head_dim % VARLEN_HEAD_DIM_MULTIPLE == 0 and head_dim <= VARLEN_MAX_HEAD_DIM
    if bias is not None or dtype not in VARLEN_DTYPES or not fits:
        return RunAttention(bias)
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # torch is older than 2.10
        return RunAttention(bias)
    return VarlenAttention(varlen_attn)


def relative_bias(table: Tensor, positions: RelativePositions) -> Bias:
    """The bias of T5 (Raffel et al. 2019, arXiv:1910.10683, as mesh-tensorflow computes it). `table` `[num_buckets,
    num_heads]`: half of the buckets are for keys behind the query, of each half one part for single distances, the
    rest for growing ranges up to the greatest distance.
    """

    def bias(length: int) -> Tensor:
        places = torch.arange(length, device=table.device)
        buckets = _buckets(places[None, :] - places[:, None], positions)
        return functional.embedding(buckets, table).permute(2, 0, 1)

    return bias


def _buckets(distance: Tensor, positions: RelativePositions) -> Tensor:
    half = positions.num_buckets // 2
    exact = half // 2
    far = distance.abs()
    growth = torch.log(far.clamp(min=1) / exact) / math.log(positions.max_distance / exact)
    ranged = (exact + (growth * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(distance > 0, half, 0) + torch.where(far < exact, far, ranged)


def _runs(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(first token, number of sequences, their length) of each run of one length."""
    start = 0
    for length, run in itertools.groupby(lengths):
        count = sum(1 for _ in run)
        yield start, count, length
        start += count * length
