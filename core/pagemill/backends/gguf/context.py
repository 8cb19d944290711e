"""One llama.cpp context: the KV memory of all slots, and `llama_decode` over it.

`Context` owns the `llama_context`; it must be closed before its model. Only the step loop's thread may call it.
llama.cpp aborts the process on a broken precondition (`GGML_ASSERT`), so each one is kept here.
"""

import ctypes
from collections.abc import Sequence as ReadOnlySequence
from logging import getLogger
from typing import Any

from pagemill.backends.gguf.batch import Batch, Piece
from pagemill.backends.gguf.capacity import Capacity
from pagemill.backends.gguf.kv_size import padded
from pagemill.backends.gguf.logits import Logits
from pagemill.backends.gguf.model import Model, reason_of
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.engine.step import CopyKV, KVOperation
from pagemill.errors import BackendError, ModelLoadError
from pagemill.machine import num_usable_cores

logger = getLogger(__name__)

MAX_SLOTS = 256  # LLAMA_MAX_SEQ
MAX_UBATCH = 512  # more only costs memory on a CPU
MIN_OUTPUTS = 32  # logits rows in one decode, however few the slots: prompt logprobs want many
GGML_TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}
FLASH_ATTENTION = {"auto": -1, "on": 1, "off": 0}
POOLING_NONE = 0
STATE_HEAD_BYTES = 8  # of a slot's state: a magic number and the slot
LAST_CACHE = 1  # LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY: without the cache of the layers that see all positions
DECODE_ERRORS = {
    1: "no room in the KV cache for the batch",
    2: "the computation was aborted",
    -1: "llama.cpp refused the batch",
    -2: "out of memory for the computation",
    -3: "the computation failed",
}


class Context:
    """The KV memory and compute buffers of one model. `slot` is llama.cpp's sequence id."""

    def __init__(self, model: Model, handle: int, options: GGUFOptions, num_outputs: int) -> None:
        c = self._c = model.library.c
        self._library = model.library
        self._handle: int | None = handle
        self._unified = options.kv_unified
        self.num_streams = 1 if options.kv_unified else int(c.llama_n_seq_max(handle))
        self._vocab_size = int(c.llama_vocab_n_tokens(model.vocab))
        self.max_outputs = num_outputs
        self.max_tokens = int(c.llama_n_batch(handle))
        self._batch = Batch(c, self.max_tokens)

    @property
    def handle(self) -> int:
        """The `llama_context *`."""
        if self._handle is None:
            raise BackendError("the model is closed")
        return self._handle

    @property
    def _memory(self) -> int:
        return int(self._c.llama_get_memory(self.handle))

    def apply(self, operation: KVOperation) -> None:
        """Copy or forget KV. A copy between streams moves its bytes at the next decode, but counts from now on."""
        if isinstance(operation, CopyKV):
            self._copy(operation.source, operation.destination, operation.num_tokens)
        else:
            self._truncate(operation.slot, operation.num_tokens)

    def decode(self, pieces: ReadOnlySequence[Piece]) -> Logits:
        """Compute the pieces' tokens. The logits are valid until the next decode.

        Raises:
            BackendError: llama.cpp failed; what the pieces' slots hold is undefined.
        """
        batch = self._batch.fill(pieces)
        with self._library.captured_errors() as errors:
            code = self._c.llama_decode(self.handle, batch)
        if code != 0:
            meaning = DECODE_ERRORS.get(code, "unknown failure")
            details = f": {errors[0]}" if errors else ""
            raise BackendError(f"llama_decode of {batch.n_tokens} tokens failed ({code}, {meaning}){details}")
        num_outputs = sum(piece.num_outputs for piece in pieces)
        if num_outputs == 0:
            # Nothing reads the logits, which would wait for the computation: what is timed as this step ends here.
            self._c.llama_synchronize(self.handle)
            return Logits(None, 0, self._vocab_size)
        return Logits(self._c.llama_get_logits(self.handle), num_outputs, self._vocab_size)

    def slot_state(self, slot: int) -> memoryview:
        """A copy of all that a slot holds, in llama.cpp's form.

        Raises:
            BackendError: llama.cpp gives nothing.
        """
        size = int(self._c.llama_state_seq_get_size_ext(self.handle, slot, 0))
        buffer = (ctypes.c_uint8 * size)()
        if int(self._c.llama_state_seq_get_data_ext(self.handle, buffer, size, slot, 0)) != size:
            raise BackendError(f"llama.cpp can't save slot {slot}")
        return memoryview(buffer).cast("B")

    def last_cache_bytes(self, slot: int) -> int:
        """How much of `slot_state` is of the model's last cache: all but the head if there is only one."""
        return int(self._c.llama_state_seq_get_size_ext(self.handle, slot, LAST_CACHE)) - STATE_HEAD_BYTES

    def set_slot_state(self, slot: int, state: bytearray) -> None:
        """Replace what a slot holds.

        Raises:
            BackendError: llama.cpp does not take it, with its reason; the slot is empty.
        """
        buffer = (ctypes.c_uint8 * len(state)).from_buffer(state)
        with self._library.captured_errors() as errors:
            taken = int(self._c.llama_state_seq_set_data_ext(self.handle, buffer, len(state), slot, 0))
        if taken != len(state):
            self.clear(slot)
            raise BackendError(f"llama.cpp does not take the KV for slot {slot}: {reason_of(errors)}")

    def clear(self, slot: int) -> None:
        """Forget all that a slot holds. Never fails."""
        self._remove(slot, 0)

    def close(self) -> None:
        """Free the context; idempotent."""
        if self._handle is not None:
            self._c.llama_free(self._handle)
            self._handle = None

    def _copy(self, source: int, destination: int, num_tokens: int) -> None:
        if self._unified:
            self.clear(destination)
            self._c.llama_memory_seq_cp(self._memory, source, destination, 0, num_tokens)
            return
        # Streams are copied whole, replacing what the destination held; then its tail is cut.
        self._c.llama_memory_seq_cp(self._memory, source, destination, -1, -1)
        self._truncate(destination, num_tokens)

    def _truncate(self, slot: int, num_tokens: int) -> None:
        if not self._remove(slot, num_tokens):
            self.clear(slot)
            raise BackendError(f"slot {slot} can't be cut to {num_tokens} tokens: this model's memory is recurrent")

    def _remove(self, slot: int, start: int) -> bool:
        return bool(self._c.llama_memory_seq_rm(self._memory, slot, start, -1))


def create_context(model: Model, options: GGUFOptions, capacity: Capacity) -> Context:
    """Allocate the KV memory of the capacity's slots.

    Raises:
        ModelLoadError: llama.cpp refuses, with its reason; or the model has no KV memory at all.
    """
    if capacity.max_num_seqs > MAX_SLOTS:
        raise ModelLoadError(f"max_num_seqs {capacity.max_num_seqs} is beyond llama.cpp's limit of {MAX_SLOTS}")
    num_outputs = max(capacity.max_num_seqs, MIN_OUTPUTS)
    params = _context_params(model, options, capacity, num_outputs)
    handle, errors = model.library.attempt(lambda: model.library.c.llama_init_from_model(model.handle, params))
    if not handle:
        raise ModelLoadError(f"can't make a context for {model.path}: {reason_of(errors)}")
    if not model.library.c.llama_get_memory(handle):
        model.library.c.llama_free(handle)
        raise ModelLoadError(f"can't serve {model.path}: {model.architecture} keeps no KV, it does not generate text")
    return Context(model, handle, options, num_outputs)


def _context_params(model: Model, options: GGUFOptions, capacity: Capacity, num_outputs: int) -> Any:
    params = model.library.c.llama_context_default_params()
    params.n_seq_max = capacity.max_num_seqs
    params.n_ctx = padded(capacity.max_model_len) * capacity.max_num_seqs
    params.n_batch = max(options.max_num_batched_tokens, num_outputs)
    params.n_ubatch = min(params.n_batch, MAX_UBATCH)
    # Without this limit llama.cpp reserves logits for a whole batch: 300 MB at a vocabulary of 150k.
    params.n_outputs_max = num_outputs
    params.n_threads = params.n_threads_batch = options.threads or num_usable_cores()
    params.flash_attn_type = FLASH_ATTENTION[options.flash_attn]
    params.type_k = params.type_v = GGML_TYPES[options.kv_type]
    params.kv_unified = options.kv_unified
    params.swa_full = True  # a sliding window's KV is kept whole, or prefixes could not be used again
    params.pooling_type = POOLING_NONE
    params.no_perf = True
    return params
