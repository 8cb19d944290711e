"""The arrays of a `llama_batch`, allocated once and filled for every decode.

Owns that memory; llama.cpp reads it during `llama_decode` only.
"""

import ctypes
from collections.abc import Sequence as ReadOnlySequence
from types import ModuleType
from typing import Any, NamedTuple

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
        integers, flags = ctypes.c_int32 * capacity, ctypes.c_int8 * capacity
        self._token = integers()
        self._position = integers()
        self._slot = integers()
        self._output = flags()
        self._num_slots = integers(*[1] * capacity)  # each token belongs to one sequence
        first, size = ctypes.addressof(self._slot), ctypes.sizeof(ctypes.c_int32)
        self._slot_pointers = (ctypes.c_size_t * capacity)(*range(first, first + capacity * size, size))
        self._struct = c.llama_batch(
            n_tokens=0,
            token=_pointer(self._token, ctypes.c_int32),
            pos=_pointer(self._position, ctypes.c_int32),
            n_seq_id=_pointer(self._num_slots, ctypes.c_int32),
            seq_id=_pointer(self._slot_pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._output, ctypes.c_int8),
        )

    def fill(self, pieces: ReadOnlySequence[Piece]) -> Any:
        """The `llama_batch` of these pieces, valid until the next call. They must fit, and be in order of their slots.

        Outputs come in the same order: a piece with n of them has the next n rows of the logits.
        """
        tokens: list[Any] = []
        positions: list[Any] = []
        slots: list[Any] = []
        outputs: list[Any] = []
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


def _pointer(array: ctypes.Array[Any], kind: Any) -> Any:
    return ctypes.cast(array, ctypes.POINTER(kind))
