"""The gated MLP: from hidden states to what is added to them. Owns its weights; mutates none."""

from torch import Tensor

from pagemill.backends.paged.layers.linear import Linear
from pagemill.backends.paged.ops.base import Activation, Ops


class GatedMLP:
    """`down(activation(gate(x)) * up(x))`, gate and up in one product."""

    def __init__(self, *, ops: Ops, activation: Activation, gate_up: Linear, down: Linear) -> None:
        self._ops = ops
        self._activation: Activation = activation
        self._gate_up = gate_up
        self._down = down

    def __call__(self, hidden: Tensor) -> Tensor:
        """`[num_tokens, hidden_size]` to the same shape."""
        gate_up = self._ops.linear(hidden, self._gate_up.weight, self._gate_up.bias)
        inner = self._ops.gated_activation(gate_up, self._activation)
        return self._ops.linear(inner, self._down.weight, self._down.bias)
