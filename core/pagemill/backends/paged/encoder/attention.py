"""Attention in both directions within each sequence of a step. Owns no state.

Sequences come in order of their lengths, so those of one length are neighbours: each run of them is one call of torch's
attention, with no padding and no mask.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pagemill.backends.paged.encoder.config import RelativePositions

Bias = Callable[[int], Tensor]  # of a length: [num_heads, length, length]


def attend(qkv: Tensor, lengths: Sequence[int], bias: Bias | None) -> Tensor:
    """`qkv` `[num_tokens, 3, num_heads, head_dim]`, the sequences of `lengths` one after the other. Returns
    `[num_tokens, num_heads * head_dim]`. `bias` is added to the scores.
    """
    num_tokens, _, num_heads, head_dim = qkv.shape
    output = torch.empty((num_tokens, num_heads, head_dim), dtype=qkv.dtype, device=qkv.device)
    for start, count, length in _runs(lengths):
        end = start + count * length
        query, key, value = qkv[start:end].view(count, length, 3, num_heads, head_dim).permute(2, 0, 3, 1, 4)
        mask = None if bias is None else bias(length)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        output[start:end].view(count, length, num_heads, head_dim).copy_(attended.transpose(1, 2))
    return output.view(num_tokens, num_heads * head_dim)


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
