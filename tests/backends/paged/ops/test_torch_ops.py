"""The plain-torch operations against their formulas in float64."""

import math

import pytest
import torch

from pagemill.backends.paged.ops.base import Activation
from pagemill.backends.paged.ops.torch_ops import TorchOps

OPS = TorchOps()


def test_rms_norm_divides_by_the_root_of_the_mean_square() -> None:
    x, weight = torch.randn(3, 5, 32), torch.randn(32)
    expected = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    torch.testing.assert_close(OPS.rms_norm(x, weight, 1e-5), expected.float())


def test_rms_norm_of_strided_rows_is_dense() -> None:
    x, weight = torch.randn(7, 96)[:, 32:64], torch.ones(32)
    output = OPS.rms_norm(x, weight, 1e-5)
    assert output.is_contiguous()
    torch.testing.assert_close(output, OPS.rms_norm(x.contiguous(), weight, 1e-5))


def test_add_rms_norm_adds_to_the_residual_in_place() -> None:
    x, residual, weight = torch.randn(3, 32), torch.randn(3, 32), torch.randn(32)
    total = x + residual
    output = OPS.add_rms_norm(x, residual, weight, 1e-5)
    torch.testing.assert_close(residual, total)
    torch.testing.assert_close(output, OPS.rms_norm(total, weight, 1e-5))


@pytest.mark.parametrize("rotary_dim", [16, 8])
def test_rotate_turns_pairs_by_their_positions_angle(rotary_dim: int) -> None:
    query, key = torch.randn(4, 3, 16), torch.randn(4, 1, 16)
    angles = torch.rand(10, rotary_dim // 2) * 2 * math.pi
    positions = torch.tensor([9, 0, 3, 3])
    turn = torch.polar(torch.ones_like(angles), angles)[positions].unsqueeze(1)
    expected = []
    for states in (query, key):
        first, second, rest = torch.split(states, [rotary_dim // 2, rotary_dim // 2, 16 - rotary_dim], dim=-1)
        turned = torch.complex(first, second) * turn
        expected.append(torch.cat([turned.real, turned.imag, rest], dim=-1))
    OPS.rotate(query, key, positions, torch.cat([angles.cos(), angles.sin()], dim=-1))
    torch.testing.assert_close(query, expected[0])
    torch.testing.assert_close(key, expected[1])


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh", "gelu"])
def test_gated_activation_follows_its_formula(activation: Activation) -> None:
    gate_up = torch.randn(5, 64)
    gate, up = gate_up.double().chunk(2, dim=-1)
    inner = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
    acts = {
        "silu": gate / (1 + (-gate).exp()),
        "gelu_tanh": gate / 2 * (1 + inner.tanh()),
        "gelu": gate / 2 * (1 + torch.erf(gate / math.sqrt(2))),
    }
    torch.testing.assert_close(OPS.gated_activation(gate_up, activation), (acts[activation] * up).float())


def test_linear_takes_the_weight_that_it_prepared() -> None:
    x, weight, bias = torch.randn(5, 8), torch.randn(6, 8), torch.randn(6)
    torch.testing.assert_close(OPS.linear(x, OPS.prepare_weight(weight), bias), x @ weight.T + bias)
