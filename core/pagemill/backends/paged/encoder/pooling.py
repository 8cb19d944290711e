"""One vector of each sequence's hidden states. Owns no state."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last"]


def pool(states: Tensor, lengths: Sequence[int], pooling: Pooling) -> Tensor:
    """`states` `[num_tokens, hidden_size]`, sequence after sequence, to `[num_seqs, hidden_size]` float32, as
    sentence-transformers has it: the weighted mean by positions from 1 (Muennighoff 2022, arXiv:2202.08904).
    """
    counts = torch.tensor(lengths, device=states.device)
    ends = counts.cumsum(0)
    if pooling == "cls":
        return states[ends - counts].float()
    if pooling == "last":
        return states[ends - 1].float()
    owners = torch.repeat_interleave(torch.arange(len(lengths), device=states.device), counts)
    if pooling == "max":
        lowest = torch.full((len(lengths), states.shape[1]), -torch.inf, device=states.device)
        return lowest.index_reduce_(0, owners, states.float(), "amax")
    if pooling == "weighted_mean":
        weights = torch.arange(1, len(states) + 1, device=states.device) - (ends - counts)[owners]
        return (
            _sums(states.float() * weights[:, None], owners, len(lengths))
            / _sums(weights.float(), owners, len(lengths))[:, None]
        )
    sums = _sums(states.float(), owners, len(lengths))
    return sums / (counts.sqrt() if pooling == "mean_sqrt_len" else counts)[:, None]


def _sums(values: Tensor, owners: Tensor, count: int) -> Tensor:
    return torch.zeros((count, *values.shape[1:]), device=values.device).index_add_(0, owners, values)
