"""Drawing one entry of each row by its weight: inverse CDF, with one uniform number a row. Owns no state.

Running sums are of integers, so they never fall and an entry without weight is never drawn, in whatever order a device
adds. Long rows are summed in blocks first: a running sum over 150k entries is a serial loop on the CPU.
"""

import torch
from torch import Tensor

from pagemill.backends.paged.sampling.rows import in_blocks

BLOCK = 256
SCALE = 2.0**40  # the weight of 1 as an integer; 2**22 of them fit an int64


def draw(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The columns `[num_rows]` (int64) that `uniforms` `[num_rows]`, float64 in [0, 1), mean.

    `weights` `[num_rows, n]` float32 lie in [0, 1] and each row's largest is 1.
    """
    targets = uniforms.unsqueeze(1)
    if weights.shape[1] <= 4 * BLOCK:
        ends = _running_sum(weights)
        return _reached(ends, (targets * ends[:, -1:]).long()).squeeze(1)
    blocks = in_blocks(weights, BLOCK, 0.0)
    ends = _running_sum(blocks.sum(-1))
    target = (targets * ends[:, -1:]).long()
    block = _reached(ends, target)
    before = torch.where(block > 0, ends.gather(1, (block - 1).clamp_(min=0)), 0)
    inside = blocks.gather(1, block.unsqueeze(-1).expand(-1, 1, BLOCK)).squeeze(1)
    return (block * BLOCK + _reached(_running_sum(inside), target - before)).squeeze(1)


def row_sums(rows: Tensor) -> Tensor:
    """The sums `[num_rows, 1]`, float64, of `[num_rows, n]` float32: as exact as blocks summed in float32 make them."""
    return in_blocks(rows, BLOCK, 0.0).sum(-1).double().sum(-1, keepdim=True)


def _running_sum(weights: Tensor) -> Tensor:
    return (weights.double() * SCALE).long().cumsum(-1)


def _reached(ends: Tensor, target: Tensor) -> Tensor:
    """The first column whose running sum is above the target `[num_rows, 1]`; at most the last that adds anything."""
    above = (ends <= target).sum(-1, keepdim=True)
    last = (ends < ends[:, -1:]).sum(-1, keepdim=True)
    return torch.minimum(above, last)
