"""The small operations between a decoder's matrix products: the protocol of their implementations.

Plain torch takes several passes over memory and several launches for each; a fused kernel takes one. `ops/torch_ops`
says in plain torch what each means and runs everywhere; others are held against it. Owns no state. May not import a
model definition.
"""

from typing import Literal, Protocol

from torch import Tensor

Activation = Literal["silu", "gelu_tanh", "gelu"]


class Ops(Protocol):
    """One implementation. Thread-bound. Tensors are dense in their last dimension; rows may be strided where it says
    so.
    """

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """`x / rms(x) * weight` over the last dimension, computed in float32. `x` `[..., size]`, rows may be strided; a
        model that scales by `1 + weight` folds the one into its weights at load. Returns a new dense tensor.
        """
        ...

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        """`residual += x` in place, then `rms_norm(residual)`. Both `[num_tokens, size]`, dense."""
        ...

    def rotate(self, query: Tensor, key: Tensor, positions: Tensor, cos_sin: Tensor) -> None:
        """Rotary embedding in place (Su et al. 2021, arXiv:2104.09864, in the split-halves form of Llama).

        `query` `[num_tokens, num_heads, head_dim]` and `key` `[num_tokens, num_kv_heads, head_dim]`; rows may be
        strided. `positions` `[num_tokens]` int64; `cos_sin` `[max_positions, rotary_dim]` float32: rotary_dim / 2
        cosines, then as many sines. Dimensions from rotary_dim on stay as they are.
        """
        ...

    def gated_activation(self, gate_up: Tensor, activation: Activation) -> Tensor:
        """`activation(gate) * up` of `[num_tokens, 2 * size]`, gate first. Returns `[num_tokens, size]`."""
        ...

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """`x @ weight.T + bias`. `x` `[num_tokens, in]`, `weight` `[out, in]` as `prepare_weight` returned it."""
        ...

    def linear_float32(self, x: Tensor, weight: Tensor) -> Tensor:
        """`linear` without a bias, its result float32 whatever x is: for logits. Not rounded to x's dtype before, where
        that costs nothing.
        """
        ...

    def prepare_weight(self, weight: Tensor) -> Tensor:
        """The weight in the form in which `linear` is fastest; called once for each, after loading. May return it
        unchanged. The given one is not used any more.
        """
        ...
