"""Mixtures of experts: both ways of computing them against each token's experts one by one."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pagemill.backends.paged.layers.experts import ExpertLoop, Experts, GroupedExperts, MixtureOfExperts
from pagemill.backends.paged.ops.torch_ops import TorchOps

NUM_EXPERTS, HIDDEN, INNER, CHOSEN = 6, 32, 16, 2


class Weights:
    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        self.router = torch.randn(NUM_EXPERTS, HIDDEN, generator=random)
        self.gate_up = torch.randn(NUM_EXPERTS, 2 * INNER, HIDDEN, generator=random) / HIDDEN**0.5
        self.down = torch.randn(NUM_EXPERTS, HIDDEN, INNER, generator=random) / INNER**0.5
        self.router[4] = -100.0 * torch.ones(HIDDEN)  # nobody chooses it

    def expected(self, hidden: Tensor, normalize: bool) -> Tensor:
        rows = []
        for row in hidden:
            weights, experts = (self.router @ row).softmax(0).topk(CHOSEN)
            if normalize:
                weights = weights / weights.sum()
            outputs = torch.stack([self._mlp(row, int(expert)) for expert in experts])
            rows.append(weights @ outputs)
        return torch.stack(rows)

    def _mlp(self, row: Tensor, expert: int) -> Tensor:
        gate, up = torch.chunk(self.gate_up[expert] @ row, 2)
        return torch.mv(self.down[expert], functional.silu(gate) * up)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("num_tokens", [1, 2, 17])
@pytest.mark.parametrize("kind", [ExpertLoop, GroupedExperts])
def test_each_token_gets_the_weighted_sum_of_its_experts(
    kind: type[ExpertLoop] | type[GroupedExperts], num_tokens: int, normalize: bool
) -> None:
    weights = Weights()
    hidden = torch.rand(num_tokens, HIDDEN, generator=torch.Generator().manual_seed(1))
    dtype = torch.bfloat16 if kind is GroupedExperts else torch.float32
    experts: Experts = kind(
        ops=TorchOps(), activation="silu", gate_up=weights.gate_up.to(dtype), down=weights.down.to(dtype)
    )
    mixture = MixtureOfExperts(
        ops=TorchOps(),
        router=weights.router,
        experts=_InDtype(experts, dtype),
        num_experts_per_token=CHOSEN,
        normalize_weights=normalize,
    )
    tolerance = 0.02 if kind is GroupedExperts else 1e-5
    torch.testing.assert_close(mixture(hidden), weights.expected(hidden, normalize), atol=tolerance, rtol=tolerance)


class _InDtype:
    """The router works in float32, so that both ways choose the same experts."""

    def __init__(self, experts: Experts, dtype: torch.dtype) -> None:
        self._experts = experts
        self._dtype = dtype

    def __call__(self, hidden: Tensor, experts: Tensor) -> Tensor:
        return self._experts(hidden.to(self._dtype), experts).float()
