"""From a step plan to the tensors of one step. Owns the host buffers that they are copied from (pinned, for a GPU).

Everything of a step travels in one copy: token ids, positions, slots, lengths and block tables lie in one buffer. Two
buffers take turns, so that a step can be laid out while the copy for the one before it is still under way. A step whose
turn comes before its buffer has been copied waits for that: nobody waits for steps that sample nothing.
"""

from collections.abc import Mapping
from collections.abc import Sequence as ReadOnlySequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pagemill.backends.paged.attention.base import AttentionBatch, Prefill
from pagemill.engine.step import SequenceChunk, StepPlan

ALIGNMENT = 16  # of each array in the buffer, in bytes
NUM_ARRAYS = 9

HostArray = NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StepInput:
    """One step on the device. Sequences stand in the batch as `AttentionBatch` wants them."""

    token_ids: Tensor  # [num_tokens] int64; undefined at `follower_rows`
    positions: Tensor  # [num_tokens] int64
    batch: AttentionBatch
    sample_rows: Tensor  # [num_samples] int64: rows whose next token is wanted, in the order of the plan's chunks
    follower_rows: Tensor  # [num_followers] int64: rows whose token id is what the step before sampled ...
    followed_samples: Tensor  # ... and which of its samples that is
    first_rows: Mapping[int, int]  # each sequence's first row


class _HostBuffer:
    """Bytes on their way to the device."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._device = device
        self._bytes = torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._copied = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def writable(self) -> NDArray[np.uint8]:
        """To be filled for the next copy. Waits for the end of the one before."""
        if self._copied is not None:
            self._copied.synchronize()
        array: NDArray[np.uint8] = self._bytes.numpy()
        return array

    def send(self, size: int) -> Tensor:
        """A copy of the first bytes on the device, in the order of its other work."""
        sent = self._bytes[:size].to(self._device, non_blocking=True)
        if self._copied is not None:
            self._copied.record()
        return sent


class BatchBuilder:
    """Lays out steps of up to `max_num_batched_tokens` tokens in up to `max_num_seqs` sequences."""

    def __init__(
        self, *, max_num_seqs: int, max_num_batched_tokens: int, max_blocks: int, block_size: int, device: torch.device
    ) -> None:
        self._block_size = block_size
        int64s = 3 * max_num_batched_tokens + 3 * max_num_seqs
        int32s = 2 * max_num_seqs + 1 + max_num_seqs * max_blocks
        size = 8 * int64s + 4 * int32s + NUM_ARRAYS * ALIGNMENT
        self._buffers = [_HostBuffer(size, device) for _ in range(2)]
        self._blocks: dict[int, tuple[tuple[int, ...], NDArray[np.int32]]] = {}  # placements as arrays, by sequence

    def forget(self, sequence_ids: ReadOnlySequence[int]) -> None:
        """The sequences have ended."""
        for sequence_id in sequence_ids:
            self._blocks.pop(sequence_id, None)

    def build(self, plan: StepPlan, samples_before: Mapping[int, int]) -> StepInput:
        """The plan's chunks, those of one token first. `samples_before`: for each sequence, which of the samples of the
        step before was its. The tensors are valid until the next but one call.
        """
        single = [chunk for chunk in plan.chunks if chunk.num_tokens == 1]
        chunks = single + [chunk for chunk in plan.chunks if chunk.num_tokens != 1]
        lengths = [chunk.num_tokens for chunk in chunks]
        context_lens = [chunk.start + length for chunk, length in zip(chunks, lengths, strict=True)]
        starts = np.zeros(len(chunks) + 1, np.int32)
        np.cumsum(lengths, out=starts[1:])
        first_rows = {chunk.sequence_id: row for chunk, row in zip(chunks, starts.tolist(), strict=False)}
        tables = self._tables(chunks, -(-max(context_lens) // self._block_size))
        positions = _positions(chunks, lengths, len(single), plan.num_tokens)
        sampling = [chunk for chunk in plan.chunks if chunk.sample]
        followers = [chunk.sequence_id for chunk in single if chunk.follows]
        tensors = self._to_device(
            _token_ids(chunks, plan.num_tokens),
            positions,
            self._slots(tables, positions, lengths),
            starts,
            np.asarray(context_lens, np.int32),
            tables,
            np.asarray([first_rows[chunk.sequence_id] + chunk.num_tokens - 1 for chunk in sampling], np.int64),
            np.asarray([first_rows[sequence_id] for sequence_id in followers], np.int64),
            np.asarray([samples_before[sequence_id] for sequence_id in followers], np.int64),
        )
        token_ids, device_positions, slots, query_starts, device_context_lens, block_tables = tensors[:6]
        sample_rows, follower_rows, followed_samples = tensors[6:]
        batch = AttentionBatch(
            num_decodes=len(single),
            query_starts=query_starts,
            context_lens=device_context_lens,
            block_tables=block_tables,
            slots=slots,
            max_query_len=max(lengths),
            max_context_len=max(context_lens),
            prefills=tuple(
                Prefill(index, first_rows[chunks[index].sequence_id], lengths[index], context_lens[index])
                for index in range(len(single), len(chunks))
            ),
        )
        return StepInput(token_ids, device_positions, batch, sample_rows, follower_rows, followed_samples, first_rows)

    def _tables(self, chunks: ReadOnlySequence[SequenceChunk], width: int) -> NDArray[np.int32]:
        tables = np.zeros((len(chunks), width), np.int32)
        for row, chunk in enumerate(chunks):
            placement, blocks = self._blocks.get(chunk.sequence_id, (None, None))
            if blocks is None or placement is not chunk.placement:  # the KV cache makes a new tuple when it changes
                blocks = np.asarray(chunk.placement, np.int32)
                self._blocks[chunk.sequence_id] = (chunk.placement, blocks)
            count = min(len(blocks), width)
            tables[row, :count] = blocks[:count]
        return tables

    def _slots(
        self, tables: NDArray[np.int32], positions: NDArray[np.int64], lengths: ReadOnlySequence[int]
    ) -> NDArray[np.int64]:
        sequences = np.repeat(np.arange(len(lengths)), lengths)
        pages, offsets = np.divmod(positions, self._block_size)
        slots: NDArray[np.int64] = tables[sequences, pages].astype(np.int64) * self._block_size + offsets
        return slots

    def _to_device(self, *arrays: HostArray) -> list[Tensor]:
        """Pack the arrays into the next buffer, copy it once, and give each array's view of the copy."""
        self._buffers.reverse()
        buffer = self._buffers[0]
        host = buffer.writable()
        offsets = []
        end = 0
        for array in arrays:
            offsets.append(end)
            host[end : end + array.nbytes].view(array.dtype)[:] = array.ravel()
            end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        packed = buffer.send(end)
        return [
            packed[offset : offset + array.nbytes].view(_torch_dtype(array)).view(array.shape)
            for offset, array in zip(offsets, arrays, strict=True)
        ]


def _torch_dtype(array: HostArray) -> torch.dtype:
    return torch.int64 if array.itemsize == 8 else torch.int32


def _token_ids(chunks: ReadOnlySequence[SequenceChunk], num_tokens: int) -> NDArray[np.int64]:
    token_ids: list[int] = []
    for chunk in chunks:
        token_ids.extend((0,) if chunk.follows else chunk.token_ids)
    return np.fromiter(token_ids, np.int64, num_tokens)


def _positions(
    chunks: ReadOnlySequence[SequenceChunk], lengths: ReadOnlySequence[int], num_single: int, num_tokens: int
) -> NDArray[np.int64]:
    positions = np.empty(num_tokens, np.int64)
    positions[:num_single] = [chunk.start for chunk in chunks[:num_single]]
    end = num_single
    for chunk, length in zip(chunks[num_single:], lengths[num_single:], strict=True):
        positions[end : end + length] = np.arange(chunk.start, chunk.start + length)
        end += length
    return positions
