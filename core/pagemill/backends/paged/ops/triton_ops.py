"""The small operations as fused Triton kernels, each one pass over its memory. Owns no state.

Nothing here waits for the device, so CUDA graphs can capture it. With TRITON_INTERPRET=1 it runs on the CPU, for tests.
"""

import torch
import triton
from torch import Tensor
from torch.nn import functional

from pagemill.backends.paged.ops.base import Activation
from pagemill.backends.paged.ops.triton_kernels import (
    add_rms_norm_kernel,
    gated_activation_kernel,
    rms_norm_kernel,
    rotate_kernel,
)

ELEMENTS_AT_ONCE = 1024  # of a program that has a choice
MANY_ELEMENTS = 4096  # in one program: eight warps instead of four


class TritonOps:
    """See `ops.base.Ops`. The device must be the current one when it is called."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        size = x.shape[-1]
        rows = x.flatten(0, -3) if x.dim() > 2 else x.reshape(-1, 1, size)
        output = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        num_rows = rows.shape[0] * rows.shape[1]
        if num_rows == 0:
            return output
        size_padded = triton.next_power_of_2(size)
        rows_at_once = max(1, ELEMENTS_AT_ONCE // size_padded)
        rms_norm_kernel[(triton.cdiv(num_rows, rows_at_once),)](
            output,
            rows,
            weight,
            num_rows,
            rows.shape[1],
            rows.stride(0),
            rows.stride(1),
            eps,
            size=size,
            rows_at_once=rows_at_once,
            size_padded=size_padded,
            num_warps=_num_warps(size_padded),
        )
        return output

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        num_tokens, size = residual.shape
        output = torch.empty_like(residual)
        if num_tokens == 0:
            return output
        size_padded = triton.next_power_of_2(size)
        add_rms_norm_kernel[(num_tokens,)](
            output, x, residual, weight, eps, size=size, size_padded=size_padded, num_warps=_num_warps(size_padded)
        )
        return output

    def rotate(self, query: Tensor, key: Tensor, positions: Tensor, cos_sin: Tensor) -> None:
        num_tokens, num_heads, head_dim = query.shape
        if num_tokens == 0:
            return
        half = cos_sin.shape[1] // 2
        heads_padded, half_padded = triton.next_power_of_2(num_heads), triton.next_power_of_2(half)
        rotate_kernel[num_tokens, 2](
            query,
            key,
            positions,
            cos_sin,
            query.stride(0),
            key.stride(0),
            num_heads=num_heads,
            num_kv_heads=key.shape[1],
            head_dim=head_dim,
            half=half,
            heads_padded=heads_padded,
            kv_heads_padded=triton.next_power_of_2(key.shape[1]),
            half_padded=half_padded,
            num_warps=_num_warps(heads_padded * half_padded),
        )

    def gated_activation(self, gate_up: Tensor, activation: Activation) -> Tensor:
        num_tokens, size = gate_up.shape[0], gate_up.shape[1] // 2
        output = torch.empty((num_tokens, size), dtype=gate_up.dtype, device=gate_up.device)
        if num_tokens == 0:
            return output
        gated_activation_kernel[num_tokens, triton.cdiv(size, ELEMENTS_AT_ONCE)](
            output,
            gate_up,
            gate_up.stride(0),
            size=size,
            activation=activation,
            elements_at_once=ELEMENTS_AT_ONCE,
            num_warps=4,
        )
        return output

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.linear(x, weight, bias)

    def linear_float32(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.linear(x, weight).float()

    def prepare_weight(self, weight: Tensor) -> Tensor:
        return weight


def _num_warps(num_elements: int) -> int:
    return 8 if num_elements >= MANY_ELEMENTS else 4
