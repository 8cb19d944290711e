"""A mixture of experts (Shazeer et al. 2017, arXiv:1701.06538): each token goes through a few of many MLPs.

Tokens are sorted by expert, so that each expert that has any computes them in one product, and every expert's weight is
read once. Owns its weights; mutates none.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from pagemill.backends.paged.ops.base import Activation, Ops

GROUPED_CAPABILITIES = (9, 10)  # CUDA compute capabilities for which torch has a grouped product


class Experts(Protocol):
    """All experts' MLPs."""

    def __call__(self, hidden: Tensor, experts: Tensor) -> Tensor:
        """`hidden` `[num_pairs, hidden_size]`, one row for each pair, sorted by `experts` `[num_pairs]`."""
        ...


class ExpertLoop:
    """One product after the other, for the experts that have tokens. It waits for the device to know which these are,
    so no CUDA graph can capture it.
    """

    def __init__(self, *, ops: Ops, activation: Activation, gate_up: Tensor, down: Tensor) -> None:
        self._ops = ops
        self._activation: Activation = activation
        self._gate_up = [ops.prepare_weight(weight) for weight in gate_up]
        self._down = [ops.prepare_weight(weight) for weight in down]

    def __call__(self, hidden: Tensor, experts: Tensor) -> Tensor:
        present, counts = torch.unique_consecutive(experts, return_counts=True)
        output = torch.empty_like(hidden)
        start = 0
        for expert, count in zip(present.tolist(), counts.tolist(), strict=True):
            rows = slice(start, start + count)
            gate_up = self._ops.linear(hidden[rows], self._gate_up[expert])
            inner = self._ops.gated_activation(gate_up, self._activation)
            output[rows] = self._ops.linear(inner, self._down[expert])
            start += count
        return output


class GroupedExperts:
    """All experts in one grouped product of torch's; the host does not need to know how many tokens each has. On GPUs
    other than Hopper and Blackwell torch would read that from the device, for a product after the other.
    """

    def __init__(self, *, ops: Ops, activation: Activation, gate_up: Tensor, down: Tensor) -> None:
        self._ops = ops
        self._activation: Activation = activation
        self._gate_up = gate_up.transpose(1, 2)
        self._down = down.transpose(1, 2)
        self._numbers = torch.arange(len(gate_up), device=gate_up.device)

    def __call__(self, hidden: Tensor, experts: Tensor) -> Tensor:
        ends = torch.searchsorted(experts, self._numbers, right=True, out_int32=True)
        gate_up = functional.grouped_mm(hidden, self._gate_up, offs=ends)
        return functional.grouped_mm(self._ops.gated_activation(gate_up, self._activation), self._down, offs=ends)


def make_experts(*, ops: Ops, activation: Activation, gate_up: Tensor, down: Tensor) -> Experts:
    """The faster of the two that runs on the weights' device in their dtype. `gate_up` `[num_experts, 2 * size,
    hidden_size]`, gate first; `down` `[num_experts, hidden_size, size]`.
    """
    kind = GroupedExperts if _can_be_grouped(gate_up, down) else ExpertLoop
    return kind(ops=ops, activation=activation, gate_up=gate_up, down=down)


def _can_be_grouped(*weights: Tensor) -> bool:
    """Whether torch has a kernel for it, which wants rows of a multiple of 16 bytes."""
    if weights[0].device.type != "cuda" or torch.version.hip is not None:
        return False
    major, _ = torch.cuda.get_device_capability(weights[0].device)
    return major in GROUPED_CAPABILITIES and all(
        weight.dtype == torch.bfloat16 and weight.shape[2] % 8 == 0 for weight in weights
    )


class MixtureOfExperts:
    """A layer's experts and the router that chooses among them."""

    def __init__(
        self, *, ops: Ops, router: Tensor, experts: Experts, num_experts_per_token: int, normalize_weights: bool
    ) -> None:
        self._ops = ops
        self._router = router
        self._experts = experts
        self._num_chosen = num_experts_per_token
        self._normalize_weights = normalize_weights

    def __call__(self, hidden: Tensor) -> Tensor:
        """`[num_tokens, hidden_size]` to the same shape."""
        weights, chosen = self._choose(hidden)
        experts, order = chosen.flatten().sort(stable=True)
        output = self._experts(hidden[order // self._num_chosen], experts)
        pairs = torch.empty_like(output)
        pairs[order] = output
        return (pairs.view(*chosen.shape, -1) * weights.to(pairs.dtype).unsqueeze(-1)).sum(1)

    def _choose(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Each token's experts and their weights, both `[num_tokens, num_experts_per_token]`, weights float32."""
        probabilities = self._ops.linear(hidden, self._router).float().softmax(-1)
        weights, chosen = probabilities.topk(self._num_chosen, dim=-1)
        if self._normalize_weights:
            weights = weights / weights.sum(-1, keepdim=True)
        return weights, chosen
