"""The fused Triton operations, in Triton's interpreter, against the plain-torch ones."""

import pytest
import torch

from pagemill.backends.paged.ops.base import Activation
from pagemill.backends.paged.ops.torch_ops import TorchOps

pytest.importorskip("triton", reason="triton is made for Linux on x86-64 only")
from pagemill.backends.paged.ops.triton_ops import TritonOps

pytestmark = pytest.mark.usefixtures("one_thread")
OPS = TritonOps(torch.device("cpu"))
PLAIN = TorchOps()
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """To the dtype's rounding; the interpreter cuts bfloat16 off where a GPU rounds it."""
    assert actual.dtype == expected.dtype
    rounding = 2 * torch.finfo(actual.dtype).eps if actual.dtype != torch.float32 else 1e-5
    torch.testing.assert_close(actual, expected, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 2048), (5, 80), (1, 64), (4, 3, 80), (2, 3, 4, 16), (24,)])
def test_rms_norm_is_the_plain_one(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, weight = torch.randn(shape).to(dtype), torch.randn(shape[-1]).to(dtype)
    assert_close(OPS.rms_norm(x, weight, 1e-5), PLAIN.rms_norm(x, weight, 1e-5))


def test_rms_norm_of_heads_in_a_fused_projection_is_dense() -> None:
    fused = torch.randn(5, 6 * 80)
    key = fused.view(5, 6, 80)[:, 3:5]
    output = OPS.rms_norm(key, weight := torch.randn(80), 1e-5)
    assert output.is_contiguous()
    assert_close(output, PLAIN.rms_norm(key, weight, 1e-5))


def test_rms_norm_of_strided_rows_is_dense() -> None:
    x, weight = torch.randn(7, 96)[:, 32:64], torch.randn(32)
    output = OPS.rms_norm(x, weight, 1e-5)
    assert output.is_contiguous()
    assert_close(output, PLAIN.rms_norm(x, weight, 1e-5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("size", [80, 4096])
def test_add_rms_norm_adds_in_place_and_norms_the_rounded_sum(size: int, dtype: torch.dtype) -> None:
    x, residual, weight = torch.randn(3, size).to(dtype), torch.randn(3, size).to(dtype), torch.randn(size).to(dtype)
    plain_residual = residual.clone()
    expected = PLAIN.add_rms_norm(x, plain_residual, weight, 1e-5)
    assert_close(OPS.add_rms_norm(x, residual, weight, 1e-5), expected)
    torch.testing.assert_close(residual, plain_residual, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("head_dim", "rotary_dim"), [(64, 64), (80, 80), (80, 32), (128, 128)])
def test_rotate_turns_views_of_a_fused_projection_in_place(head_dim: int, rotary_dim: int, dtype: torch.dtype) -> None:
    fused = torch.randn(5, 6, head_dim).to(dtype)
    plain = fused.clone()
    positions, cos_sin = torch.tensor([9, 0, 3, 3, 7]), torch.randn(10, rotary_dim)
    OPS.rotate(fused[:, :3], fused[:, 3:5], positions, cos_sin)
    PLAIN.rotate(plain[:, :3], plain[:, 3:5], positions, cos_sin)
    assert_close(fused, plain)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")  # numpy's, where a GPU has infinity
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh", "gelu"])
@pytest.mark.parametrize("size", [48, 1100])
def test_gated_activation_is_the_plain_one(size: int, activation: Activation, dtype: torch.dtype) -> None:
    gate_up = (3 * torch.randn(3, 2 * size)).to(dtype)
    gate_up[0, :4] = torch.tensor([100.0, -100.0, 30.0, -30.0])
    output, expected = OPS.gated_activation(gate_up, activation), PLAIN.gated_activation(gate_up, activation)
    assert output.is_contiguous()
    torch.testing.assert_close(output, expected, rtol=2e-3 if dtype != torch.float32 else 1e-5, atol=1e-4)


def test_nothing_is_launched_for_no_rows() -> None:
    assert OPS.rms_norm(torch.empty(0, 8), torch.ones(8), 1e-5).shape == (0, 8)
    assert OPS.add_rms_norm(torch.empty(0, 8), torch.empty(0, 8), torch.ones(8), 1e-5).shape == (0, 8)
    assert OPS.gated_activation(torch.empty(0, 8), "silu").shape == (0, 4)
    OPS.rotate(torch.empty(0, 2, 8), torch.empty(0, 1, 8), torch.empty(0, dtype=torch.long), torch.ones(4, 8))


def test_linear_takes_the_weight_that_it_prepared() -> None:
    x, weight, bias = torch.randn(5, 8), torch.randn(6, 8), torch.randn(6)
    torch.testing.assert_close(OPS.linear(x, OPS.prepare_weight(weight), bias), x @ weight.T + bias)
