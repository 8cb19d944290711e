"""One llama.cpp context that makes embeddings: whole sequences in, a vector of each out, nothing kept.

`EmbeddingContext` owns the `llama_context`; it must be closed before its model. Only the embedding loop's thread may
call it. llama.cpp aborts the process on a broken precondition (`GGML_ASSERT`), so each one is kept here.
"""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

from pagemill.backends.embedder import Vector
from pagemill.backends.gguf.batch import Batch, Piece
from pagemill.backends.gguf.context import DECODE_ERRORS, FLASH_ATTENTION, GGML_TYPES, MAX_SLOTS, MAX_UBATCH
from pagemill.backends.gguf.kv_size import padded
from pagemill.backends.gguf.model import Model, reason_of
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.backends.gguf.pooling import LAST, RANK, Pooling
from pagemill.engine.step import SequenceChunk
from pagemill.errors import BackendError, ModelLoadError
from pagemill.machine import num_usable_cores


class EmbeddingLimits(NamedTuple):
    """What one step holds. `max_tokens` is at least `max_model_len`."""

    max_model_len: int
    max_num_seqs: int
    max_tokens: int


class EmbeddingContext:
    """The compute buffers of one model, and for a decoder the keys and values of one step."""

    def __init__(self, model: Model, handle: int, limits: EmbeddingLimits, num_values: int) -> None:
        self._c = model.library.c
        self._library = model.library
        self._handle: int | None = handle
        self._memory = self._c.llama_get_memory(handle)  # null for an encoder
        self._compute = self._c.llama_decode if self._memory else self._c.llama_encode
        self._limits = limits
        self._vector = ctypes.c_float * num_values
        self._batch = Batch(self._c, limits.max_tokens)

    def embed(self, sequences: Sequence[Sequence[int]]) -> list[Vector]:
        """A vector of each sequence of token ids.

        Raises:
            BackendError: llama.cpp failed, or they are more than a step holds.
        """
        if self._handle is None:
            raise BackendError("the model is closed")
        num_tokens = sum(map(len, sequences))
        if num_tokens > self._limits.max_tokens or len(sequences) > self._limits.max_num_seqs:
            raise BackendError(
                f"a step of {len(sequences)} sequences and {num_tokens} tokens is more than there is room"
            )
        if self._memory:
            self._c.llama_memory_clear(self._memory, False)
        batch = self._batch.fill([_piece(slot, token_ids) for slot, token_ids in enumerate(sequences)])
        with self._library.captured_errors() as errors:
            code = self._compute(self._handle, batch)
        if code != 0:
            meaning = DECODE_ERRORS.get(code, "unknown failure")
            details = f": {errors[0]}" if errors else ""
            raise BackendError(f"embedding {num_tokens} tokens failed ({code}, {meaning}){details}")
        return [self._read(slot) for slot in range(len(sequences))]

    def close(self) -> None:
        """Free the context; idempotent."""
        if self._handle is not None:
            self._c.llama_free(self._handle)
            self._handle = None

    def _read(self, slot: int) -> Vector:
        """A copy of the vector, which llama.cpp overwrites in the next step."""
        found = self._c.llama_get_embeddings_seq(self._handle, slot)
        if not found:
            raise BackendError(f"llama.cpp has no embedding for sequence {slot}")
        values = self._vector.from_address(ctypes.addressof(found.contents))
        return memoryview(bytearray(values)).cast("f")


def create_embedding_context(
    model: Model, pooling: Pooling, limits: EmbeddingLimits, options: GGUFOptions
) -> EmbeddingContext:
    """Allocate what steps within the limits need.

    Raises:
        ModelLoadError: llama.cpp refuses, with its reason.
    """
    if limits.max_num_seqs > MAX_SLOTS:
        raise ModelLoadError(f"max_num_seqs {limits.max_num_seqs} is beyond llama.cpp's limit of {MAX_SLOTS}")
    c = model.library.c
    params = c.llama_context_default_params()
    params.n_seq_max = limits.max_num_seqs
    params.n_ctx = padded(limits.max_tokens)
    params.n_batch = limits.max_tokens
    # A pooled vector is of one pass over the whole sequence, unless it is the last token's.
    in_passes = pooling.causal and pooling.kind == LAST
    params.n_ubatch = min(limits.max_tokens, MAX_UBATCH) if in_passes else limits.max_tokens
    params.n_threads = params.n_threads_batch = options.threads or num_usable_cores()
    params.flash_attn_type = FLASH_ATTENTION[options.flash_attn]
    params.type_k = params.type_v = GGML_TYPES[options.kv_type]
    params.kv_unified = True  # one step's tokens are all that there is
    params.swa_full = True
    params.embeddings = True
    params.pooling_type = pooling.kind
    params.no_perf = True
    handle, errors = model.library.attempt(lambda: c.llama_init_from_model(model.handle, params))
    if not handle:
        raise ModelLoadError(f"can't make a context for {model.path}: {reason_of(errors)}")
    num_values = (
        c.llama_model_n_cls_out(model.handle) if pooling.kind == RANK else c.llama_model_n_embd_out(model.handle)
    )
    return EmbeddingContext(model, handle, limits, int(num_values))


def _piece(slot: int, token_ids: Sequence[int]) -> Piece:
    chunk = SequenceChunk(sequence_id=slot, token_ids=token_ids, start=0, placement=(slot,), sample=False)
    return Piece(slot, chunk, 0, len(token_ids))
