"""The encoder: every family that `config` knows runs as this one model. Owns the weights; no call mutates them.

Sequences lie one after the other without padding: a step costs what its tokens do. May not know a family's name.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pagemill.backends.paged.encoder.attention import EncoderAttention
from pagemill.backends.paged.encoder.config import Activation, EncoderConfig
from pagemill.backends.paged.layers.linear import Linear
from pagemill.backends.paged.ops.base import Ops


class LayerNorm(NamedTuple):
    """Both `[hidden_size]`."""

    weight: Tensor
    bias: Tensor


class EncoderLayer(NamedTuple):
    """Attention and MLP, each with the norm of its sum with the residual."""

    qkv: Linear
    attention_output: Linear
    norm_after_attention: LayerNorm
    up: Linear
    down: Linear
    norm_after_mlp: LayerNorm


class Embeddings(NamedTuple):
    """Tables of rows to add up, and the norm of the sum."""

    words: Tensor  # [vocab_size, hidden_size]
    positions: Tensor  # [num_positions, hidden_size]
    token_types: Tensor | None  # [num_token_types, hidden_size]
    norm: LayerNorm


class Encoder:
    """See the module."""

    def __init__(
        self,
        config: EncoderConfig,
        *,
        ops: Ops,
        embeddings: Embeddings,
        layers: tuple[EncoderLayer, ...],
        attention: EncoderAttention,
    ) -> None:
        self.config = config
        self._ops = ops
        self._embeddings = embeddings
        self._layers = layers
        self._attention = attention

    def forward(self, token_ids: Tensor, positions: Tensor, token_types: Tensor, lengths: Sequence[int]) -> Tensor:
        """The last hidden states `[num_tokens, hidden_size]`. The first three `[num_tokens]` int64 on the model's
        device, positions from 0 in each sequence; the sequences of `lengths` in order of these.
        """
        config, ops = self.config, self._ops
        states = self._embed(token_ids, positions, token_types)
        attend = self._attention.plan(lengths, states.device)
        for layer in self._layers:
            qkv = ops.linear(states, *layer.qkv).view(-1, 3, config.num_heads, config.head_dim)
            attended = ops.linear(attend(qkv), *layer.attention_output)
            states = self._norm(attended.add_(states), layer.norm_after_attention)
            inner = activate(ops.linear(states, *layer.up), config.activation)
            states = self._norm(ops.linear(inner, *layer.down).add_(states), layer.norm_after_mlp)
        return states

    def _embed(self, token_ids: Tensor, positions: Tensor, token_types: Tensor) -> Tensor:
        tables = self._embeddings
        states = functional.embedding(token_ids, tables.words)
        states += functional.embedding(positions + self.config.first_position, tables.positions)
        if tables.token_types is not None:
            states += functional.embedding(token_types, tables.token_types)
        return self._norm(states, tables.norm)

    def _norm(self, states: Tensor, norm: LayerNorm) -> Tensor:
        return functional.layer_norm(states, states.shape[-1:], norm.weight, norm.bias, self.config.norm_eps)


def activate(states: Tensor, activation: Activation) -> Tensor:
    """The activation between an MLP's two products."""
    match activation:
        case "relu":
            return torch.relu_(states)
        case "silu":
            return functional.silu(states, inplace=True)
    return functional.gelu(states, approximate="tanh" if activation == "gelu_tanh" else "none")
