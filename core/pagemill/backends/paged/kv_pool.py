"""The memory of the paged KV cache: one pool of pages for each layer, allocated once. Owns those tensors.

Which page is whose is `engine.block_kv_cache`'s to know; here are only the bytes.
"""

from collections.abc import Iterable

import torch

from pagemill.backends.paged.attention.base import LayerKV
from pagemill.engine.step import CopyKV, KVOperation, TruncateKV


class KVPool:
    """`num_blocks` pages of `block_size` tokens in each layer.

    A layer's keys and values lie next to each other, so a page's copy touches few places. The memory is not cleared:
    nothing reads a position before it is written.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_blocks: int,
        block_size: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (num_layers, 2, num_blocks, num_kv_heads, block_size, head_dim)
        self._memory = torch.empty(shape, dtype=dtype, device=device)
        self.block_size = block_size
        self.layers = tuple(LayerKV(layer[0], layer[1]) for layer in self._memory)

    @property
    def num_bytes(self) -> int:
        return self._memory.numel() * self._memory.element_size()

    def apply(self, operations: Iterable[KVOperation]) -> None:
        """Do the plan's copies, in order."""
        for operation in operations:
            if isinstance(operation, TruncateKV):
                raise TypeError("pages are never truncated")
            self._copy(operation)

    def _copy(self, operation: CopyKV) -> None:
        count = operation.num_tokens
        self._memory[:, :, operation.destination, :, :count] = self._memory[:, :, operation.source, :, :count]
