"""The memory of the paged KV cache: one pool of pages for each layer, allocated once. Owns those tensors.

Which page is whose is `engine.block_kv_cache`'s to know; here are only the bytes.
"""

import math
from collections.abc import Iterable, Sequence

import torch

from pagemill.backends.paged.attention.base import LayerKV
from pagemill.engine.step import CopyKV, KVOperation, TruncateKV
from pagemill.errors import BackendError


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
        memory = torch.empty(shape, dtype=dtype, device=device)
        self.block_size = block_size
        self.layers = tuple(LayerKV(layer[0], layer[1]) for layer in memory)
        self._memory = memory.view(torch.uint8) if dtype.itemsize == 1 else memory  # torch indexes fp8 not everywhere

    @property
    def num_bytes(self) -> int:
        return self._memory.numel() * self._memory.element_size()

    def apply(self, operations: Iterable[KVOperation]) -> None:
        """Do the plan's copies, in order."""
        for operation in operations:
            if isinstance(operation, TruncateKV):
                raise TypeError("pages are never truncated")
            self._copy(operation)

    def save(self, blocks: Sequence[int], num_tokens: int) -> memoryview:
        """A copy of the first tokens in these pages, whole pages; what is behind the last token is zero."""
        pages = self._memory[:, :, list(blocks)].cpu().view(torch.uint8)
        pages[:, :, -1, :, num_tokens - (len(blocks) - 1) * self.block_size :] = 0
        return pages.numpy().data.cast("B")

    def load(self, blocks: Sequence[int], data: memoryview) -> None:
        """Fill these pages with what `save` gave for as many.

        Raises:
            BackendError: it is of another size.
        """
        shape = (*self._memory.shape[:2], len(blocks), *self._memory.shape[3:])
        if len(data) != math.prod(shape) * self._memory.element_size():
            raise BackendError(f"{len(data)} bytes are not {len(blocks)} pages of {tuple(shape)} values")
        pages = torch.frombuffer(data, dtype=torch.uint8).view(self._memory.dtype).view(shape)
        first, end = blocks[0], blocks[0] + len(blocks)
        if list(blocks) == list(range(first, end)):  # as they come in a new cache: then it is a copy of long runs
            self._memory[:, :, first:end].copy_(pages)
        else:
            self._memory[:, :, list(blocks)] = pages.to(self._memory.device)

    def _copy(self, operation: CopyKV) -> None:
        count = operation.num_tokens
        self._memory[:, :, operation.destination, :, :count] = self._memory[:, :, operation.source, :, :count]
