"""The generic decoder: every family that `architectures/` knows runs as this one model. Owns the weights.

Between two norms a layer's output is not added to the residual at once but by the next norm, in one operation. The
forward pass waits for nothing and allocates nothing but its results, so a CUDA graph can capture it (except where
`layers.experts` says otherwise). May not import transformers, nor know a family's name.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from pagemill.backends.paged.attention.base import AttentionBatch, LayerKV
from pagemill.backends.paged.config import DecoderConfig
from pagemill.backends.paged.layers.self_attention import SelfAttention
from pagemill.backends.paged.model import KVShape
from pagemill.backends.paged.ops.base import Ops


class DecoderLayer(NamedTuple):
    """Attention and MLP with the norms around them; None where the model has none."""

    norm_before_attention: Tensor | None
    attention: SelfAttention
    norm_after_attention: Tensor | None
    norm_before_mlp: Tensor | None
    mlp: Callable[[Tensor], Tensor]
    norm_after_mlp: Tensor | None


class Decoder:
    """See `model.PagedModel`."""

    def __init__(
        self,
        config: DecoderConfig,
        *,
        ops: Ops,
        embedding: Tensor,  # [vocab_size, hidden_size]
        layers: tuple[DecoderLayer, ...],
        norm: Tensor,  # [hidden_size]
        head: Tensor | None,  # [vocab_size, hidden_size], prepared; None: `logits` is never called
    ) -> None:
        self.config = config
        self._ops = ops
        self._embedding = embedding
        self._layers = layers
        self._norm = norm
        self._head = head
        self._embedding_multiplier = _embedding_multiplier(config, embedding)

    @property
    def kv_shape(self) -> KVShape:
        return KVShape(self.config.num_layers, self.config.num_kv_heads, self.config.head_dim)

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        batch: AttentionBatch,
        pages: tuple[LayerKV, ...],
        rows: Tensor | None = None,
    ) -> Tensor:
        residual = functional.embedding(token_ids, self._embedding)
        if self._embedding_multiplier != 1.0:
            residual.mul_(self._embedding_multiplier)
        added: Tensor | None = None
        last = self._layers[-1]
        for layer, kv in zip(self._layers, pages, strict=True):
            hidden = self._enter(layer.norm_before_attention, added, residual)
            wanted = rows if layer is last else None  # of the others the last layer needs keys and values only
            attended = layer.attention(hidden, positions, batch, kv, wanted)
            if wanted is not None:
                residual = residual.index_select(0, wanted)
            added = self._leave(layer.norm_after_attention, attended)
            hidden = self._enter(layer.norm_before_mlp, added, residual)
            added = self._leave(layer.norm_after_mlp, layer.mlp(hidden))
        return self._enter(self._norm, added, residual)

    def logits(self, hidden: Tensor) -> Tensor:
        assert self._head is not None, "a model for embeddings"
        logits = self._ops.linear_float32(hidden, self._head)
        if self.config.logits_divisor != 1.0:
            logits.div_(self.config.logits_divisor)
        if self.config.logits_soft_cap is not None:
            logits.div_(self.config.logits_soft_cap).tanh_().mul_(self.config.logits_soft_cap)
        return logits

    def _enter(self, norm: Tensor | None, added: Tensor | None, residual: Tensor) -> Tensor:
        """Add what the part before gave to the residual, in place, and return what the next part sees of it."""
        if norm is None:
            return residual if added is None else residual.add_(added)
        if added is None:
            return self._ops.rms_norm(residual, norm, self.config.norm_eps)
        return self._ops.add_rms_norm(added, residual, norm, self.config.norm_eps)

    def _leave(self, norm: Tensor | None, output: Tensor) -> Tensor:
        """What a part's output adds to the residual."""
        if norm is not None:
            output = self._ops.rms_norm(output, norm, self.config.norm_eps)
        if self.config.residual_multiplier != 1.0:
            output.mul_(self.config.residual_multiplier)
        return output


def _embedding_multiplier(config: DecoderConfig, embedding: Tensor) -> float:
    if config.round_embedding_multiplier:
        return embedding.new_tensor(config.embedding_multiplier).item()
    return config.embedding_multiplier
