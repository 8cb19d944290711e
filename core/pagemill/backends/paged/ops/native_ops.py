"""The small operations in C, for bfloat16 and float32 on the CPU: one pass over memory each, and no dispatch.

bfloat16 weights are packed for a matrix product of our own where the CPU multiplies pairs of bfloat16 and has no matrix
unit (AMX), for which oneDNN knows better. Owns no state.
"""

import torch
from torch import Tensor
from torch.nn import functional

from pagemill.backends.paged.native.library import load_kernels, load_short_kernels
from pagemill.backends.paged.ops.base import Activation
from pagemill.machine import cpu_features

ACTIVATIONS: dict[Activation, int] = {"silu": 0, "gelu_tanh": 1, "gelu": 2}  # as ops.c numbers them
PARALLEL_ELEMENTS = 1 << 14  # from here on, more threads than one are faster
PANEL = 16  # a packed weight's rows in one vector


class NativeOps:
    """See `ops.base.Ops`. Makes its tensors as torch does; all arguments must be of the dtype, `cos_sin` float32."""

    def __init__(self, dtype: torch.dtype) -> None:
        kernels, short = load_kernels(), load_short_kernels()
        kind = {torch.bfloat16: "bf16", torch.float32: "float"}[dtype]
        self._rms_norm = getattr(short, f"pagemill_rms_norm_{kind}")
        self._add_rms_norm = getattr(short, f"pagemill_add_rms_norm_{kind}")
        self._rotate = getattr(short, f"pagemill_rotate_{kind}")
        self._gated_activation = getattr(short, f"pagemill_gated_activation_{kind}")
        self._packs = kind == "bf16" and bool(kernels.pagemill_multiplies_bf16()) and "amx_bf16" not in cpu_features()
        if self._packs:
            self._pack, self._linear = kernels.pagemill_pack_weight, kernels.pagemill_linear
        self._dtype = dtype
        self._num_threads = torch.get_num_threads()

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        if x.dim() > 3:
            return self.rms_norm(x.flatten(0, -3), weight, eps).view(x.shape)
        outer, inner = x.shape[:-1] if x.dim() == 3 else (x.numel() // x.shape[-1], 1)
        outer_stride, inner_stride = x.stride()[:-1] if x.dim() == 3 else (x.stride(0) if x.dim() == 2 else 0, 0)
        output = torch.empty(x.shape, dtype=self._dtype)
        self._rms_norm(
            x.data_ptr(), outer_stride, inner_stride, weight.data_ptr(), output.data_ptr(),
            outer, inner, x.shape[-1], eps, self._threads(output),
        )  # fmt: skip
        return output

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        output = torch.empty(x.shape, dtype=self._dtype)
        num_tokens, size = x.shape
        self._add_rms_norm(
            x.data_ptr(), residual.data_ptr(), weight.data_ptr(), output.data_ptr(),
            num_tokens, size, eps, self._threads(output),
        )  # fmt: skip
        return output

    def rotate(self, query: Tensor, key: Tensor, positions: Tensor, cos_sin: Tensor) -> None:
        num_tokens, num_heads, head_dim = query.shape
        self._rotate(
            query.data_ptr(), query.stride(0), num_heads, key.data_ptr(), key.stride(0), key.shape[1], head_dim,
            positions.data_ptr(), cos_sin.data_ptr(), cos_sin.shape[1], num_tokens, self._threads(query),
        )  # fmt: skip

    def gated_activation(self, gate_up: Tensor, activation: Activation) -> Tensor:
        num_tokens, width = gate_up.shape
        output = torch.empty((num_tokens, width // 2), dtype=self._dtype)
        self._gated_activation(
            gate_up.data_ptr(), gate_up.stride(0), output.data_ptr(),
            num_tokens, width // 2, ACTIVATIONS[activation], self._threads(output),
        )  # fmt: skip
        return output

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight.dim() == 2:
            return functional.linear(x, weight, bias)
        return self._multiply(x, weight, bias, self._dtype)

    def linear_float32(self, x: Tensor, weight: Tensor) -> Tensor:
        if weight.dim() == 2:
            return functional.linear(x, weight).float()
        return self._multiply(x, weight, None, torch.float32)

    def _multiply(self, x: Tensor, packed: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        num_tokens, size = x.shape
        columns = packed.shape[0] * PANEL
        output = torch.empty((num_tokens, columns), dtype=dtype)
        self._linear(
            x.data_ptr(), x.stride(0), packed.data_ptr(), None if bias is None else bias.data_ptr(), output.data_ptr(),
            num_tokens, columns, size, dtype is torch.float32, self._num_threads,
        )  # fmt: skip
        return output

    def prepare_weight(self, weight: Tensor) -> Tensor:
        """Packed, it is `[out / 16, in / 2, 16, 2]`."""
        columns, size = weight.shape
        if not self._packs or weight.dtype is not self._dtype or columns % PANEL or size % 2:
            return weight
        packed = torch.empty((columns // PANEL, size // 2, PANEL, 2), dtype=self._dtype)
        self._pack(weight.contiguous().data_ptr(), packed.data_ptr(), columns, size, self._num_threads)
        return packed

    def _threads(self, touched: Tensor) -> int:
        return self._num_threads if touched.numel() >= PARALLEL_ELEMENTS else 1
