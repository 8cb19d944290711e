"""CUDA graphs of the decode step: recorded when a batch size first comes, replayed from then on.

A step of one sequence launches hundreds of kernels that each run for a few microseconds, less than it takes to launch
them; a graph is one launch. Batches are padded to a few sizes. Owns the buffers that the graphs read, and the graphs.
All that is CUDA's own is in `CudaRecorder`; the rest runs on any device.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pagemill.backends.paged.attention.base import AttentionBatch, LayerKV
from pagemill.backends.paged.model import PagedModel
from pagemill.backends.paged.recording import RECORDING, RefuseWaiting

logger = logging.getLogger(__name__)

MAX_BATCH_SIZE = 256
MAX_GRAPHS = 40  # all sizes up to 256 are 35


class Recording(NamedTuple):
    """What a computation gave, and how to compute it again from what its inputs hold by then, into the same memory."""

    replay: Callable[[], None]
    output: Tensor


class Recorder(Protocol):
    def __call__(self, compute: Callable[[], Tensor]) -> Recording:
        """Record the computation, which may run any number of times for it. Raises RuntimeError if it can't be."""
        ...


class CudaRecorder:
    """Records on a stream of its own, into one pool of memory: only one of the graphs runs at a time, and they are
    dropped together (torch takes no pool again whose graphs are all gone).
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Callable[[], Tensor]) -> Recording:
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream), RefuseWaiting():
                compute()  # compiles kernels, makes scratch memory and workspaces, which a recording may not
        finally:
            current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        recording = torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local")
        try:
            with RECORDING, recording:
                output = compute()
        finally:
            torch.cuda.set_stream(current)  # a recording that fails leaves its own
        return Recording(graph.replay, output)


class DecodeGraphs:
    """A model's forward pass for batches that only decode. Thread-bound, as the model is."""

    def __init__(
        self,
        model: PagedModel,
        *,
        max_num_seqs: int,
        max_blocks: int,
        device: torch.device,
        max_batch_size: int = MAX_BATCH_SIZE,
        max_graphs: int = MAX_GRAPHS,
        record: Recorder | None = None,
    ) -> None:
        """`max_blocks`: pages of the longest sequence. Larger batches than `max_batch_size`, and new sizes when there
        are `max_graphs`, are left to the caller; each graph takes a few MiB of the device's memory.
        """
        self._model = model
        self._max_batch_size = min(padded_size(max_num_seqs), max_batch_size)
        self._max_graphs = max_graphs
        self._record = record or CudaRecorder(device)
        self._graphs: dict[int, Recording] = {}
        self._pages: tuple[LayerKV, ...] = ()
        size = self._max_batch_size
        self._token_ids = torch.zeros(size, dtype=torch.int64, device=device)
        self._positions = torch.zeros(size, dtype=torch.int64, device=device)
        self._slots = torch.full((size,), -1, dtype=torch.int64, device=device)
        self._context_lens = torch.zeros(size, dtype=torch.int32, device=device)
        self._block_tables = torch.zeros((size, max_blocks), dtype=torch.int32, device=device)
        self._query_starts = torch.arange(size + 1, dtype=torch.int32, device=device)

    def forward(
        self, token_ids: Tensor, positions: Tensor, batch: AttentionBatch, pages: tuple[LayerKV, ...]
    ) -> Tensor | None:
        """What `PagedModel.forward` returns, valid until the next call; None if the batch is not for a graph.

        `pages` are the same tuple in every call, or it raises ValueError.
        """
        size = self._size_for(batch)
        if size is None:
            return None
        if pages is not self._pages and self._graphs:
            raise ValueError("a graph has the addresses of the pages that it was recorded with; these are others")
        self._pages = pages
        self._fill(token_ids, positions, batch, size)
        graph = self._graphs.get(size) or self._recorded(size)
        if graph is None:
            return None
        graph.replay()
        return graph.output[: batch.num_decodes]

    def _size_for(self, batch: AttentionBatch) -> int | None:
        """The size to pad the batch to: its own, or of the graphs there are the least that holds it."""
        size = padded_size(batch.num_decodes)
        if batch.prefills or not batch.num_decodes or size > self._max_batch_size:
            return None
        if size in self._graphs or len(self._graphs) < self._max_graphs:
            return size
        return min((larger for larger in self._graphs if larger > size), default=None)

    def _fill(self, token_ids: Tensor, positions: Tensor, batch: AttentionBatch, size: int) -> None:
        """Padded rows write nothing and see nothing."""
        count, width = batch.block_tables.shape
        self._token_ids[:count].copy_(token_ids)
        self._positions[:count].copy_(positions)
        self._slots[:count].copy_(batch.slots)
        self._context_lens[:count].copy_(batch.context_lens)
        self._block_tables[:count, :width].copy_(batch.block_tables)
        if count < size:
            self._token_ids[count:size].zero_()
            self._positions[count:size].zero_()
            self._slots[count:size].fill_(-1)
            self._context_lens[count:size].zero_()

    def _recorded(self, size: int) -> Recording | None:
        """A new graph. If there can be none, that is said once, and no more are tried."""
        batch = AttentionBatch(
            num_decodes=size,
            query_starts=self._query_starts[: size + 1],
            context_lens=self._context_lens[:size],
            block_tables=self._block_tables[:size],
            slots=self._slots[:size],
            max_query_len=1,
            max_context_len=self._block_tables.shape[1] * self._pages[0].block_size,
        )
        token_ids, positions, pages = self._token_ids[:size], self._positions[:size], self._pages
        try:
            graph = self._record(lambda: self._model.forward(token_ids, positions, batch, pages))
        except RuntimeError as error:  # torch.OutOfMemoryError is one, and an operation that waits for the device
            logger.warning("No CUDA graph for %s sequences, nor any more of them: %s", size, error)
            self._max_graphs = len(self._graphs)
            return None
        logger.debug("Recorded a CUDA graph for %s sequences", size)
        self._graphs[size] = graph
        return graph


def padded_size(num_sequences: int) -> int:
    """1, 2, 4, 8, then multiples of 8."""
    if num_sequences > 8:
        return -(-num_sequences // 8) * 8
    return 1 << max(0, num_sequences - 1).bit_length()
