"""A cross-encoder's head: from the first token's hidden state to a score. Owns its weights; mutates none."""

from typing import NamedTuple

import torch
from torch import Tensor

from pagemill.backends.paged.layers.linear import Linear
from pagemill.backends.paged.ops.base import Ops


class ScoreHead(NamedTuple):
    """`score(activation(dense(x)))`."""

    ops: Ops
    dense: Linear
    activation: str  # "tanh" or "relu"
    score: Linear

    def __call__(self, first: Tensor) -> Tensor:
        """`[num_seqs, hidden_size]` to `[num_seqs, 1]`, any real number."""
        inner = self.ops.linear(first, *self.dense)
        return self.ops.linear(torch.tanh(inner) if self.activation == "tanh" else torch.relu(inner), *self.score)
