"""Attention with its projections: from hidden states to what is added to them. Owns its weights; mutates none."""

from torch import Tensor

from pagemill.backends.paged.attention.base import Attention, AttentionBatch, AttentionSpec, LayerKV
from pagemill.backends.paged.layers.linear import Linear
from pagemill.backends.paged.layers.query_key_norm import QueryKeyNorm
from pagemill.backends.paged.ops.base import Ops


class SelfAttention:
    """One layer's. Query, key and value are views of one product; `cos_sin` is None where positions are left out."""

    def __init__(
        self,
        *,
        ops: Ops,
        attention: Attention,
        spec: AttentionSpec,
        num_heads: int,
        num_kv_heads: int,
        qkv: Linear,
        output: Linear,
        norm: QueryKeyNorm | None,
        cos_sin: Tensor | None,
    ) -> None:
        self._ops = ops
        self._attention = attention
        self._spec = spec
        self._heads = (num_heads, num_kv_heads, num_kv_heads)
        self._num_heads_in_all = sum(self._heads)
        self._qkv = qkv
        self._output = output
        self._norm = norm
        self._cos_sin = cos_sin

    def __call__(
        self, hidden: Tensor, positions: Tensor, batch: AttentionBatch, kv: LayerKV, rows: Tensor | None = None
    ) -> Tensor:
        """`hidden` `[num_tokens, hidden_size]` to the same shape, or to `rows` of it; writes all keys and values."""
        num_tokens = hidden.shape[0]
        fused = self._ops.linear(hidden, self._qkv.weight, self._qkv.bias)
        query, key, value = fused.view(num_tokens, self._num_heads_in_all, -1).split_with_sizes(self._heads, 1)
        if self._norm is not None:
            query, key = self._norm(query, key)
        if self._cos_sin is not None:
            self._ops.rotate(query, key, positions, self._cos_sin)
        attended = self._attention(self._spec, query, key, value, kv, batch).view(num_tokens, -1)
        if rows is not None:
            attended = attended.index_select(0, rows)
        return self._ops.linear(attended, self._output.weight, self._output.bias)
