"""Attention over paged keys and values by our own Triton kernels: pages of any size, read in place.

One kernel writes the pages, one decodes (a second puts its splits together), one prefills. What is launched depends on
sizes that the host knows, never on what the device holds, so CUDA graphs can capture it. Owns the scratch memory of the
splits. With TRITON_INTERPRET=1 it runs on the CPU, for tests.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pagemill.backends.paged.attention.base import AttentionBatch, AttentionSpec, LayerKV
from pagemill.backends.paged.attention.triton_kernels.decode import decode_kernel, reduce_splits_kernel
from pagemill.backends.paged.attention.triton_kernels.pages import write_pages_kernel
from pagemill.backends.paged.attention.triton_kernels.prefill import prefill_kernel

LOG2_E = 1.4426950408889634
PROGRAMS_PER_MULTIPROCESSOR = 2  # that decode aims at: two of its tiles in flight saturate the memory
MAX_SPLITS = 64  # of a sequence in decode
DECODE_STAGES = 5  # of the loop's pipeline: pages are found, then read, so this holds two tiles in shared memory
MIN_DOT_ROWS = 16  # of a matrix instruction
TILE_BYTES = 16 << 10  # of keys in one step of a program's loop, and of values as many


def power_of_two(number: int) -> int:
    """The least that is not below the number."""
    return 1 << (number - 1).bit_length()


@dataclass(frozen=True, slots=True)
class _Layout:
    """The compile-time sizes of one layer's attention, and what follows from them."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    itemsize: int  # of the queries, and of the tiles once they are loaded

    @property
    def group(self) -> int:
        return self.num_heads // self.num_kv_heads

    @property
    def dims_padded(self) -> int:
        return max(MIN_DOT_ROWS, power_of_two(self.head_dim))

    @property
    def tile(self) -> int:
        """Positions in one step of a program's loop."""
        return min(128, max(MIN_DOT_ROWS, TILE_BYTES // (self.dims_padded * self.itemsize)))

    @property
    def rows(self) -> int:
        """Rows of a prefill's tile: queries times the heads of a group."""
        wanted = MIN_DOT_ROWS if self.itemsize > 2 else 128 if self.dims_padded <= 128 else 64
        return max(wanted, power_of_two(self.group))


class TritonAttention:
    """See `attention.base.Attention`. The device must be the current one when it is called."""

    def __init__(self, device: torch.device, *, decode_programs: int | None = None) -> None:
        """`decode_programs`: into how many programs a decode is split where its sequences are too few to fill the
        device; left alone, two for each multiprocessor.
        """
        self._decode_programs = decode_programs or PROGRAMS_PER_MULTIPROCESSOR * _num_multiprocessors(device)
        self._device = device
        self._answers = torch.empty(0, dtype=torch.float32, device=device)  # of the splits
        self._weights = torch.empty(0, dtype=torch.float32, device=device)

    def __call__(
        self, spec: AttentionSpec, query: Tensor, key: Tensor, value: Tensor, kv: LayerKV, batch: AttentionBatch
    ) -> Tensor:
        layout = _Layout(query.shape[1], key.shape[1], query.shape[2], kv.block_size, query.element_size())
        write_pages(key, value, kv, batch.slots)
        output = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        if batch.num_decodes:
            self._decode(spec, layout, query, kv, batch, output)
        if batch.prefills:
            _prefill(spec, layout, query, kv, batch, output)
        return output

    def num_splits(self, spec: AttentionSpec, num_decodes: int, num_kv_heads: int, tile: int) -> int:
        """A power of two, the same for all batches that round up to the same power of two: a step gives the same
        answer whether it is padded for a graph or not.
        """
        programs = power_of_two(num_decodes) * num_kv_heads
        splits = min(MAX_SPLITS, max(1, self._decode_programs // programs))
        if spec.sliding_window is not None:
            splits = min(splits, -(-spec.sliding_window // tile))
        return power_of_two(splits + 1) // 2

    def _decode(
        self, spec: AttentionSpec, layout: _Layout, query: Tensor, kv: LayerKV, batch: AttentionBatch, output: Tensor
    ) -> None:
        num_splits = self.num_splits(spec, batch.num_decodes, layout.num_kv_heads, layout.tile)
        self._reserve(self._decode_programs * layout.group, layout.head_dim)
        decode_kernel[layout.num_kv_heads, num_splits, batch.num_decodes](
            output,
            self._answers,
            self._weights,
            query,
            kv.keys,
            kv.values,
            batch.context_lens,
            batch.block_tables,
            *_scales(spec),
            query.stride(0),
            batch.block_tables.stride(0),
            kv.keys.stride(0),
            num_splits,
            num_kv_heads=layout.num_kv_heads,
            group=layout.group,
            head_dim=layout.head_dim,
            block_size=layout.block_size,
            window=spec.sliding_window or 0,
            capped=spec.soft_cap is not None,
            tile=layout.tile,
            group_padded=max(MIN_DOT_ROWS, power_of_two(layout.group)),
            dims_padded=layout.dims_padded,
            num_warps=4,
            num_stages=DECODE_STAGES,
        )
        if num_splits > 1:
            reduce_splits_kernel[layout.num_heads, batch.num_decodes](
                output,
                self._answers,
                self._weights,
                num_heads=layout.num_heads,
                head_dim=layout.head_dim,
                num_splits=num_splits,
                dims_padded=layout.dims_padded,
                num_warps=4,
            )

    def _reserve(self, num_rows: int, head_dim: int) -> None:
        """Room for the splits of any decode: there are no more programs than `decode_programs` where there are splits.
        So it is made once, with a model's first step. Graphs have its address.
        """
        if self._weights.numel() < num_rows:
            self._weights = torch.empty(num_rows, dtype=torch.float32, device=self._device)
        if self._answers.numel() < num_rows * head_dim:
            self._answers = torch.empty(num_rows * head_dim, dtype=torch.float32, device=self._device)


def _num_multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def _scales(spec: AttentionSpec) -> tuple[float, float]:
    """The kernels' scores are logarithms to the base of two. A cap is `cap * tanh(x / cap)`, and
    `tanh(x) = 1 - 2 / (2 ** (2 * log2(e) * x) + 1)`.
    """
    if spec.soft_cap is None:
        return spec.scale * LOG2_E, 0.0
    return spec.scale / spec.soft_cap * 2 * LOG2_E, spec.soft_cap * LOG2_E


def write_pages(key: Tensor, value: Tensor, kv: LayerKV, slots: Tensor) -> None:
    """Put each token's `[num_kv_heads, head_dim]` at its slot, in the pages' dtype; slots below zero take nothing."""
    num_tokens, num_kv_heads, head_dim = key.shape
    write_pages_kernel[(num_tokens,)](
        key,
        value,
        kv.keys,
        kv.values,
        slots,
        key.stride(0),
        value.stride(0),
        kv.keys.stride(0),
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        block_size=kv.block_size,
        limit=torch.finfo(kv.keys.dtype).max if kv.keys.element_size() == 1 else 0.0,
        heads_padded=power_of_two(num_kv_heads),
        dims_padded=power_of_two(head_dim),
        num_warps=4,
    )


def _prefill(
    spec: AttentionSpec, layout: _Layout, query: Tensor, kv: LayerKV, batch: AttentionBatch, output: Tensor
) -> None:
    queries_per_tile = layout.rows // layout.group
    num_tiles = (batch.num_tokens - batch.num_decodes) // queries_per_tile + len(batch.prefills)
    prefill_kernel[layout.num_kv_heads, num_tiles](
        output,
        query,
        kv.keys,
        kv.values,
        batch.query_starts,
        batch.context_lens,
        batch.block_tables,
        *_scales(spec),
        query.stride(0),
        batch.block_tables.stride(0),
        kv.keys.stride(0),
        batch.num_decodes,
        len(batch.prefills),
        num_kv_heads=layout.num_kv_heads,
        group=layout.group,
        head_dim=layout.head_dim,
        block_size=layout.block_size,
        window=spec.sliding_window or 0,
        capped=spec.soft_cap is not None,
        tile=min(64, layout.tile),  # beside 128 rows of scores, more would not fit the registers
        queries_per_tile=queries_per_tile,
        rows_padded=layout.rows,
        dims_padded=layout.dims_padded,
        num_warps=8 if layout.rows * layout.dims_padded >= 128 * 128 else 4,
        num_stages=2 if layout.dims_padded > 128 else 3,
    )
