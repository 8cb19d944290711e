"""Norms of query and key before they are rotated. Owns its weights; mutates none."""

from torch import Tensor

from pagemill.backends.paged.ops.base import Ops


class QueryKeyNorm:
    """Over each head alone, weights `[head_dim]`; or over all heads at once, weights `[num_heads * head_dim]`."""

    def __init__(self, *, ops: Ops, query: Tensor, key: Tensor, eps: float, over_all_heads: bool) -> None:
        self._ops = ops
        self._query = query
        self._key = key
        self._eps = eps
        self._over_all_heads = over_all_heads

    def __call__(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Each `[num_tokens, heads, head_dim]`, rows maybe strided; returns new tensors, dense."""
        return self._norm(query, self._query), self._norm(key, self._key)

    def _norm(self, states: Tensor, weight: Tensor) -> Tensor:
        if self._over_all_heads:
            return self._ops.rms_norm(states.flatten(1), weight, self._eps).view(states.shape)
        return self._ops.rms_norm(states, weight, self._eps)
