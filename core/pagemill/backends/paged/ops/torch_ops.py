"""The small operations in plain torch: what each of them means, on any device and in any dtype. Owns no state."""

import torch
from torch import Tensor
from torch.nn import functional

from pagemill.backends.paged.ops.base import Activation


class TorchOps:
    """See `ops.base.Ops`. The definition that the other implementations are held against, and the fallback for them."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        return (wide * scale * weight.float()).to(x.dtype)

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        residual.add_(x)
        return self.rms_norm(residual, weight, eps)

    def rotate(self, query: Tensor, key: Tensor, positions: Tensor, cos_sin: Tensor) -> None:
        cos, sin = cos_sin[positions].unsqueeze(1).chunk(2, dim=-1)
        half = cos.shape[-1]
        for states in (query, key):
            first, second = states[..., :half].float(), states[..., half : 2 * half].float()
            rotated = first * cos - second * sin, second * cos + first * sin
            states[..., :half], states[..., half : 2 * half] = rotated

    def gated_activation(self, gate_up: Tensor, activation: Activation) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        if activation == "silu":
            return functional.silu(gate) * up
        return functional.gelu(gate, approximate="tanh" if activation == "gelu_tanh" else "none") * up

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.linear(x, weight, bias)

    def linear_float32(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.linear(x, weight).float()

    def prepare_weight(self, weight: Tensor) -> Tensor:
        return weight
