"""The C operations against the plain-torch ones in float64 or float32, in both dtypes, strided rows, odd sizes."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pagemill.backends.paged.ops.base import Activation
from pagemill.backends.paged.ops.native_ops import NativeOps
from pagemill.backends.paged.ops.torch_ops import TorchOps

DTYPES = [torch.float32, torch.bfloat16]
REFERENCE = TorchOps()


@pytest.fixture(autouse=True)
def num_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """One, for threads of a busy machine wait for each other; a test that wants more says so."""
    before, wanted = torch.get_num_threads(), getattr(request, "param", 1)
    torch.set_num_threads(wanted)
    yield wanted
    torch.set_num_threads(before)


def close(got: Tensor, expected: Tensor, *, sums: int = 100) -> None:
    """`expected` is of a wider dtype; one rounding to the narrower is allowed, and float32's of so many sums."""
    assert got.is_contiguous()
    tolerance = max(torch.finfo(got.dtype).eps, 2e-7 * sums**0.5)
    torch.testing.assert_close(got.double(), expected.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(32,), (3, 768), (200, 100), (5, 6, 64), (2, 3, 4, 8)], ids=str)
def test_rms_norm_is_that_of_torch(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, weight = torch.randn(shape).to(dtype), torch.randn(shape[-1]).to(dtype)
    close(NativeOps(dtype).rms_norm(x, weight, 1e-5), REFERENCE.rms_norm(x.float(), weight.float(), 1e-5))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rms_norm_reads_strided_rows(dtype: torch.dtype) -> None:
    fused, weight = torch.randn(7, 10, 64).to(dtype), torch.randn(64).to(dtype)
    ops = NativeOps(dtype)
    close(ops.rms_norm(fused[:, 3:7], weight, 1e-6), REFERENCE.rms_norm(fused[:, 3:7].float(), weight.float(), 1e-6))
    close(ops.rms_norm(fused[:, 4], weight, 1e-6), REFERENCE.rms_norm(fused[:, 4].float(), weight.float(), 1e-6))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_tokens", [1, 70])
def test_add_rms_norm_adds_in_place(num_tokens: int, dtype: torch.dtype) -> None:
    x, residual = torch.randn(2, num_tokens, 768).to(dtype)
    weight = torch.randn(768).to(dtype)
    total = x + residual
    output = NativeOps(dtype).add_rms_norm(x, residual, weight, 1e-5)
    assert residual.equal(total)
    close(output, REFERENCE.rms_norm(total.float(), weight.float(), 1e-5))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rotary_dim", [64, 24])
@pytest.mark.parametrize("num_tokens", [1, 90])
def test_rotate_turns_strided_rows_in_place(num_tokens: int, rotary_dim: int, dtype: torch.dtype) -> None:
    fused = torch.randn(num_tokens, 9, 64).to(dtype)
    expected = fused.float()
    positions, cos_sin = torch.randint(0, 500, (num_tokens,)), torch.randn(500, rotary_dim)
    REFERENCE.rotate(expected[:, :6], expected[:, 6:8], positions, cos_sin)
    NativeOps(dtype).rotate(fused[:, :6], fused[:, 6:8], positions, cos_sin)
    close(fused, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh", "gelu"])
@pytest.mark.parametrize("num_tokens", [1, 40])
def test_gated_activation_is_that_of_torch(num_tokens: int, activation: Activation, dtype: torch.dtype) -> None:
    gate_up = (3 * torch.randn(num_tokens, 2000)).to(dtype)
    gate_up[0, :4] = torch.tensor([-100.0, 100.0, 0.0, -1e-4])
    expected = REFERENCE.gated_activation(gate_up.double(), activation)
    close(NativeOps(dtype).gated_activation(gate_up, activation), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_threads", [1, 3], indirect=True)
@pytest.mark.parametrize(
    ("size", "columns"), [(64, 16), (34, 80), (768, 400), (2050, 48), (4100, 160), (33, 48), (64, 40)]
)
def test_linear_multiplies_by_the_prepared_weight(
    size: int, columns: int, dtype: torch.dtype, num_threads: int
) -> None:
    ops = NativeOps(dtype)
    weight, bias = (torch.randn(columns, size) / size**0.5).to(dtype), torch.randn(columns).to(dtype)
    prepared = ops.prepare_weight(weight)
    for num_tokens in (0, 1, 2, 7, 8, 9, 96, 97, 130):
        x = torch.randn(num_tokens, size).to(dtype)
        expected = x.double() @ weight.double().T
        close(ops.linear(x, prepared), expected, sums=size)
        close(ops.linear(x, prepared, bias), expected + bias.double(), sums=size)
        wide = ops.linear_float32(x, prepared)
        assert wide.dtype is torch.float32
        close(wide if prepared.dim() == 4 else wide.to(x.dtype), expected, sums=size)


def test_linear_reads_strided_rows() -> None:
    ops = NativeOps(torch.bfloat16)
    x, weight = torch.randn(20, 96).bfloat16(), torch.randn(64, 32).bfloat16() / 6
    output = ops.linear(x[:, 32:64], ops.prepare_weight(weight))
    close(output, x[:, 32:64].double() @ weight.double().T)


def test_a_nan_stays_one() -> None:
    x = torch.ones(1, 32, dtype=torch.bfloat16)
    x[0, 3] = float("nan")
    assert NativeOps(torch.bfloat16).rms_norm(x, torch.ones_like(x[0]), 1e-5).isnan().all()
