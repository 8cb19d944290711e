"""Every kernel against a reference in higher precision. Owns no state."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gpu.bench import Bench
from pagemill.backends.paged.attention.base import LayerKV
from pagemill.backends.paged.attention.torch_attention import TorchAttention
from pagemill.backends.paged.encoder.attention import RunAttention, make_encoder_attention
from pagemill.backends.paged.ops.torch_ops import TorchOps
from support.attention_cases import Case, Shape, make_case

# Of the norm of the difference to the norm of the answer.
LIMITS = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-4}
FP8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)
MIXED = Shape(
    decodes=(1, 15, 16, 17, 300, 0, 2900, 64, 0), prefills=((5, 5), (128, 128), (100, 700), (1, 50), (300, 301))
)


class KernelCheck(NamedTuple):
    name: str
    error: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.error <= self.limit  # NaN does not


def attention_shapes(mixed: Shape, dtype: torch.dtype, *, all_shapes: bool) -> dict[str, Shape]:
    """Head sizes and pages; of the rest, if it is to be all, one thing changed at a time. Each is compiled anew."""
    base = dataclasses.replace(mixed, dtype=dtype, num_heads=8, num_kv_heads=2, head_dim=128, strided=True)
    shapes = {
        f"head_dim {head_dim}, page {block_size}": dataclasses.replace(base, head_dim=head_dim, block_size=block_size)
        for head_dim in (64, 80, 96, 128, 256)
        for block_size in ((16, 32) if all_shapes else (16,))
    }
    if not all_shapes:
        return shapes
    for heads, kv_heads in ((8, 8), (6, 2), (8, 1), (32, 1)):
        shapes[f"{heads // kv_heads} heads a KV head"] = dataclasses.replace(
            base, num_heads=heads, num_kv_heads=kv_heads
        )
    for window, cap in ((128, None), (None, 30.0), (1000, 30.0)):
        shapes[f"window {window}, cap {cap}"] = dataclasses.replace(base, sliding_window=window, soft_cap=cap)
    shapes["few sequences, many splits"] = dataclasses.replace(base, decodes=(mixed.decodes[-3],), prefills=())
    return shapes


def check_attention(bench: Bench, mixed: Shape = MIXED) -> Iterator[KernelCheck]:
    for dtype in dict.fromkeys((bench.dtype, torch.float16, torch.float32)):
        for name, shape in attention_shapes(mixed, dtype, all_shapes=dtype == bench.dtype).items():
            case = make_case(shape, device=str(bench.device))
            yield KernelCheck(f"attention {_name(dtype)}, {name}", _error(bench, case, case.expected), LIMITS[dtype])


def check_fp8_attention(bench: Bench, mixed: Shape = MIXED) -> Iterator[KernelCheck]:
    """Against plain torch in float32, over pages that hold the same fp8 numbers."""
    for dtype in FP8_DTYPES:
        for head_dim in (64, 128):
            shape = dataclasses.replace(mixed, dtype=bench.dtype, head_dim=head_dim)
            case = make_case(shape, device=str(bench.device))
            pages = [LayerKV(*(states.to(dtype) for states in case.kv)) for _ in range(2)]
            plain = (case.query.float(), case.key.float(), case.value.float(), pages[0], case.batch)
            expected = TorchAttention()(case.spec, *plain)[case.real_rows.to(bench.device)].double().cpu()
            error = _error(bench, dataclasses.replace(case, kv=pages[1]), expected)
            yield KernelCheck(f"attention {_name(dtype)} pages, head_dim {head_dim}", error, LIMITS[bench.dtype])


def check_varlen(bench: Bench, mixed: Shape = MIXED) -> Iterator[KernelCheck]:
    """Torch's own kernel against the reference, and ours against torch's. Raises ModelLoadError: torch has none."""
    from pagemill.backends.paged.attention.varlen_attention import VarlenAttention

    varlen = dataclasses.replace(bench, attention=VarlenAttention(bench.device))
    for window in (None, 128):
        shape = dataclasses.replace(mixed, dtype=bench.dtype, head_dim=128, block_size=256, sliding_window=window)
        case = make_case(shape, device=str(bench.device))
        theirs = _answer(varlen, case)
        yield KernelCheck(f"varlen_attn, window {window}", _relative(theirs, case.expected), LIMITS[bench.dtype])
        error = _error(bench, case, theirs)
        yield KernelCheck(f"attention against varlen_attn, window {window}", error, LIMITS[bench.dtype])


def check_encoder_attention(bench: Bench) -> Iterator[KernelCheck]:
    """A whole step in one call, as the GPU of the bench has it, against a call for each length in float32."""
    lengths = (1, 2, 2, 2, 17, 64, 64, 300)
    for head_dim in (32, 64, 128):
        qkv = torch.randn((sum(lengths), 3, 4, head_dim), device=bench.device).to(bench.dtype)
        attention = make_encoder_attention(None, head_dim=head_dim, dtype=bench.dtype, device=bench.device)
        expected = RunAttention(None).plan(lengths, bench.device)(qkv.float())
        error = _relative(attention.plan(lengths, bench.device)(qkv), expected)
        yield KernelCheck(f"{type(attention).__name__} of encoders, head_dim {head_dim}", error, LIMITS[bench.dtype])


def check_ops(bench: Bench) -> Iterator[KernelCheck]:
    """Against plain torch in float32 on the same numbers."""
    plain, limit = TorchOps(), LIMITS[bench.dtype]

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=bench.device).to(bench.dtype)

    for rows, size in ((1, 1024), (67, 4096), (3, 5120), (33, 8192)):
        x, residual, weight = random(rows, size), random(rows, size), random(size)
        total = (x.float() + residual.float()).to(bench.dtype)
        norm = bench.ops.rms_norm(x, weight, 1e-5)
        yield KernelCheck(
            f"rms_norm {rows}x{size}", _relative(norm, plain.rms_norm(x.float(), weight.float(), 1e-5)), limit
        )
        norm = bench.ops.add_rms_norm(x, residual, weight, 1e-5)
        yield KernelCheck(f"add_rms_norm {rows}x{size}, the sum", _relative(residual, total), 0.0)
        expected = plain.rms_norm(total.float(), weight.float(), 1e-5)
        yield KernelCheck(f"add_rms_norm {rows}x{size}", _relative(norm, expected), limit)
        for activation in ("silu", "gelu_tanh", "gelu"):
            gate_up = random(rows, 2 * size)
            expected = plain.gated_activation(gate_up.float(), activation)
            yield KernelCheck(
                f"{activation} {rows}x{size}",
                _relative(bench.ops.gated_activation(gate_up, activation), expected),
                limit,
            )
    for head_dim, rotary_dim in ((64, 64), (128, 128), (80, 32), (256, 256)):
        fused, positions = random(37, 40, head_dim), torch.arange(37, device=bench.device) * 3
        cos_sin = torch.randn(128, rotary_dim, device=bench.device)
        expected = fused.float()
        plain.rotate(expected[:, :32], expected[:, 32:36], positions, cos_sin)
        bench.ops.rotate(fused[:, :32], fused[:, 32:36], positions, cos_sin)
        yield KernelCheck(f"rotate {rotary_dim} of {head_dim}", _relative(fused, expected), limit)
        norm, heads = bench.ops.rms_norm(fused[:, :32], random(head_dim).fill_(1), 1e-5), fused[:, :32].float()
        expected = plain.rms_norm(heads, torch.ones(head_dim, device=bench.device), 1e-5)
        yield KernelCheck(f"rms_norm of heads of {head_dim}", _relative(norm, expected), limit)


def _answer(bench: Bench, case: Case) -> Tensor:
    output = bench.attention(case.spec, case.query, case.key, case.value, case.kv, case.batch)
    return output[case.real_rows.to(output.device)]


def _error(bench: Bench, case: Case, expected: Tensor) -> float:
    return _relative(_answer(bench, case), expected)


def _relative(actual: Tensor, expected: Tensor) -> float:
    difference = actual.double().cpu() - expected.double().cpu()
    return float(difference.norm() / expected.double().cpu().norm())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
