"""The arrays of a `llama_batch`, allocated once and filled for every decode through numpy.

Owns that memory; llama.cpp reads it during `llama_decode` only.
"""

import ctypes
from collections.abc import Sequence as ReadOnlySequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from pagemill.engine.step import SequenceChunk


class Piece(NamedTuple):
    """Tokens [first, last) of a chunk, computed in one decode."""

    chunk_index: int  # in the plan
    chunk: SequenceChunk
    first: int
    last: int

    @property
    def num_outputs(self) -> int:
        """How many of the tokens' logits are wanted: all for prompt logprobs, else only the chunk's last."""
        if self.chunk.prompt_logprobs:
            return self.last - self.first
        return int(self.chunk.sample and self.last == len(self.chunk.token_ids))


class Batch:
    """Room for `capacity` tokens."""

    def __init__(self, c: ModuleType, capacity: int) -> None:
        self._token = np.zeros(capacity, np.int32)
        self._position = np.zeros(capacity, np.int32)
        self._slot = np.zeros(capacity, np.int32)
        self._output = np.zeros(capacity, np.int8)
        self._num_slots = np.ones(capacity, np.int32)  # each token belongs to one sequence
        step = self._slot.itemsize
        self._slot_pointers = np.arange(capacity, dtype=np.uintp) * step + self._slot.ctypes.data
        self._struct = c.llama_batch(
            n_tokens=0,
            token=_pointer(self._token, ctypes.c_int32),
            pos=_pointer(self._position, ctypes.c_int32),
            n_seq_id=_pointer(self._num_slots, ctypes.c_int32),
            seq_id=ctypes.cast(self._slot_pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            logits=_pointer(self._output, ctypes.c_int8),
        )

    def fill(self, pieces: ReadOnlySequence[Piece]) -> Any:
        """The `llama_batch` of these pieces, valid until the next call. They must fit, and be in order of their slots.

        Outputs come in the same order: a piece with n of them has the next n rows of the logits.
        """
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        outputs: list[int] = []
        for piece in pieces:
            chunk, count = piece.chunk, piece.last - piece.first
            whole = count == len(chunk.token_ids)
            tokens.extend(chunk.token_ids if whole else chunk.token_ids[piece.first : piece.last])
            positions.extend(range(chunk.start + piece.first, chunk.start + piece.last))
            slots.extend(chunk.placement * count)
            num_outputs = piece.num_outputs
            outputs.extend([0] * (count - num_outputs))
            outputs.extend([1] * num_outputs)
        size = len(tokens)
        self._token[:size] = tokens
        self._position[:size] = positions
        self._slot[:size] = slots
        self._output[:size] = outputs
        self._struct.n_tokens = size
        return self._struct


def _pointer(array: np.ndarray[Any, Any], kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))
