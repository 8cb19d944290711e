"""The backend: executes step plans, each as one `llama_decode` over all chunks.

`GGUFBackend` owns the model, its context and the running sequences' samplers. `execute` and `close` belong to the step
loop's thread.
"""

from collections.abc import Iterator, Mapping
from logging import getLogger
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

from pagemill.backends.base import ModelInfo
from pagemill.backends.gguf.batch import Piece
from pagemill.backends.gguf.capacity import Capacity, choose_capacity
from pagemill.backends.gguf.context import Context, create_context
from pagemill.backends.gguf.kv_size import KVSize, kv_size
from pagemill.backends.gguf.library import load_library
from pagemill.backends.gguf.logits import Logits
from pagemill.backends.gguf.model import Model, load_model, refuse_what_cannot_generate
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.backends.gguf.sampler import Sampler, import_what_greedy_needs
from pagemill.backends.gguf.tokenizer import GGUFTokenizer
from pagemill.engine.kv_cache import KVCache
from pagemill.engine.step import PromptLogprobs, SampledToken, SequenceStart, StepPlan, StepResult
from pagemill.errors import BackendError, ModelLoadError
from pagemill.generation import TokenLogprobs
from pagemill.machine import available_memory_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = getLogger(__name__)

MIB = 2**20


class RunningSequence(NamedTuple):
    """What is kept for a sequence from its start to its end."""

    start: SequenceStart
    sampler: Sampler


class GGUFBackend:
    """See `pagemill.backends.base.Backend`."""

    def __init__(
        self,
        model: Model,
        tokenizer: GGUFTokenizer,
        context: Context,
        options: GGUFOptions,
        capacity: Capacity,
        size: KVSize,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._options = options
        self._context = context
        self._capacity = capacity
        self._info = model.info(size.of_slot(capacity.max_model_len) * capacity.max_num_seqs)
        self._sequences: dict[int, RunningSequence] = {}

    @classmethod
    def load(cls, path: Path, options: GGUFOptions) -> "GGUFBackend":
        """Load a model and allocate its KV memory.

        Raises:
            ModelLoadError: names the file and the reason.
        """
        return cls.of(load_model(load_library(), path, options), options)

    @classmethod
    def of(cls, model: Model, options: GGUFOptions) -> "GGUFBackend":
        """Allocate the KV memory of a loaded model, which is the backend's from now on, and closed if this fails.

        Raises:
            ModelLoadError: it does not generate text, or there is no room; names the file.
        """
        try:
            refuse_what_cannot_generate(model)
        except ModelLoadError:
            model.close()
            raise
        tokenizer = GGUFTokenizer(model.library, model.vocab)
        preparing = Thread(target=_prepare, args=(tokenizer,), name="prepare-sampling", daemon=True)
        preparing.start()
        try:
            size = kv_size(model, options.kv_type)
            capacity = choose_capacity(size, model.context_length, options, available_memory_bytes())
            _log_capacity(capacity, size, model)
            context = create_context(model, options, capacity)
        except ModelLoadError:
            preparing.join()  # it reads the vocabulary
            model.close()
            raise
        preparing.join()
        return cls(model, tokenizer, context, options, capacity, size)

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def tokenizer(self) -> GGUFTokenizer:
        return self._tokenizer

    @property
    def max_model_len(self) -> int:
        return self._capacity.max_model_len

    @property
    def max_num_seqs(self) -> int:
        return self._capacity.max_num_seqs

    @property
    def max_num_batched_tokens(self) -> int:
        return self._context.max_tokens

    def new_kv_cache(self, *, enable_prefix_caching: bool) -> KVCache:
        from pagemill.engine.resident_kv_cache import ResidentKVCache

        return ResidentKVCache(
            num_slots=self.max_num_seqs,
            slot_tokens=self.max_model_len,
            can_truncate=not self._model.is_recurrent,
            can_truncate_restored=not self._model.has_sliding_window,
            enable_prefix_caching=enable_prefix_caching,
        )

    def kv_identity(self) -> Mapping[str, str | int]:
        from pagemill.backends.gguf.saved_kv import kv_identity

        return kv_identity(self._model, self._options, self._capacity.max_model_len)

    def save_kv(self, placement: tuple[int, ...], num_tokens: int) -> memoryview:
        from pagemill.backends.gguf.saved_kv import save_kv

        return save_kv(self._model, self._context, placement[0])

    def load_kv(self, placement: tuple[int, ...], num_tokens: int, data: memoryview) -> None:
        from pagemill.backends.gguf.saved_kv import load_kv

        load_kv(self._model, self._context, placement[0], data)

    def execute(self, plan: StepPlan) -> StepResult:
        _ = self._context.handle  # raises if the model is closed
        for sequence_id in plan.ended:
            self._end(sequence_id)
        for start in plan.started:
            sampler = Sampler(self._model.library.c, start, self._tokenizer.eos_token_ids, self._tokenizer.vocab_size)
            self._sequences[start.sequence_id] = RunningSequence(start, sampler)
        try:
            return self._run(plan)
        except Exception:
            # The caller takes these slots for empty from now on.
            for chunk in plan.chunks:
                self._context.clear(chunk.placement[0])
            raise

    def close(self) -> None:
        for sequence_id in list(self._sequences):
            self._end(sequence_id)
        self._tokenizer.close()
        self._context.close()
        self._model.close()

    def _run(self, plan: StepPlan) -> StepResult:
        for operation in plan.kv_operations:
            self._context.apply(operation)
        results = _Results(self._context, self._sequences)
        for pieces in split(plan, self._context.max_tokens, self._context.max_outputs):
            results.collect(pieces, self._context.decode(pieces))
        return results.finish()

    def _end(self, sequence_id: int) -> None:
        sequence = self._sequences.pop(sequence_id, None)
        if sequence is not None:
            sequence.sampler.close()


def _log_capacity(capacity: Capacity, size: KVSize, model: Model) -> None:
    logger.info(
        "KV cache: %d slots of %d tokens, %.0f MiB; the model's context is %d tokens",
        capacity.max_num_seqs,
        capacity.max_model_len,
        size.of_slot(capacity.max_model_len) * capacity.max_num_seqs / MIB,
        model.context_length,
    )


def _prepare(tokenizer: GGUFTokenizer) -> None:
    """What takes Python tens of milliseconds with a large vocabulary, while C makes the context."""
    _ = tokenizer.eos_token_ids
    import_what_greedy_needs(tokenizer.vocab_size)


class _Results:
    """Gathers what one step's decodes gave."""

    def __init__(self, context: Context, sequences: dict[int, RunningSequence]) -> None:
        self._context = context
        self._sequences = sequences
        self._sampled: dict[int, SampledToken] = {}  # by the chunk's index in the plan
        self._prompt: dict[int, PromptLogprobs] = {}  # likewise

    def collect(self, pieces: list[Piece], logits: Logits) -> None:
        """Take the rows of one decode, which come in the order of its pieces."""
        row = token = 0
        for piece in pieces:
            token += piece.last - piece.first
            if piece.chunk.prompt_logprobs:
                self._score_prompt(piece, logits.rows[row : row + piece.num_outputs])
            row += piece.num_outputs
            if piece.chunk.sample and piece.last == len(piece.chunk.token_ids):
                self._sample(piece, logits, row - 1, token - 1)

    def finish(self) -> StepResult:
        return StepResult(
            tuple(self._sampled[index] for index in sorted(self._sampled)),
            tuple(self._prompt[index] for index in sorted(self._prompt)),
        )

    def _sample(self, piece: Piece, logits: Logits, row: int, batch_index: int) -> None:
        sequence_id = piece.chunk.sequence_id
        sequence = self._sequences[sequence_id]
        num_top = sequence.start.sampling.logprobs
        sample = sequence.sampler.sample
        allowed = piece.chunk.allowed
        if num_top is None:
            token_id, logprobs = sample(self._context.handle, logits, row, batch_index, allowed), None
        else:
            from pagemill.backends.gguf.logprobs import log_softmax, token_logprobs

            # Before the sampler changes the row: logprobs are of the model's own distribution.
            distribution = log_softmax(logits.rows[row])
            token_id = sample(self._context.handle, logits, row, batch_index, allowed)
            logprobs = token_logprobs(distribution, token_id, num_top)
        self._sampled[piece.chunk_index] = SampledToken(sequence_id, token_id, logprobs)

    def _score_prompt(self, piece: Piece, rows: "NDArray[np.float32]") -> None:
        from pagemill.backends.gguf.logprobs import log_softmax, token_logprobs

        start = self._sequences[piece.chunk.sequence_id].start
        entries: list[TokenLogprobs] = []
        first = piece.chunk.start + piece.first
        for position, row in enumerate(rows, start=first + 1):
            if position < len(start.prompt_token_ids):
                token_id = start.prompt_token_ids[position]
                entries.append(token_logprobs(log_softmax(row), token_id, start.sampling.prompt_logprobs or 0))
        known = self._prompt.get(piece.chunk_index)
        self._prompt[piece.chunk_index] = PromptLogprobs(
            piece.chunk.sequence_id, piece.chunk.start, (known.entries if known else ()) + tuple(entries)
        )


def split(plan: StepPlan, max_tokens: int, max_outputs: int) -> Iterator[list[Piece]]:
    """The plan's chunks as decodes, in order of their slots: almost always one.

    llama.cpp computes chunks of neighbouring slots together, so their order decides how few passes over the weights a
    decode takes. Prompt logprobs need a row of logits for each token, which memory bounds: those make several decodes.
    """
    if plan.num_tokens > max_tokens:
        raise BackendError(f"a step of {plan.num_tokens} tokens is beyond max_num_batched_tokens {max_tokens}")
    pieces: list[Piece] = []
    room = max_outputs
    for index in sorted(range(len(plan.chunks)), key=lambda index: plan.chunks[index].placement):
        chunk = plan.chunks[index]
        first, end = 0, len(chunk.token_ids)
        while first < end:
            last = min(end, first + room) if chunk.prompt_logprobs else end
            piece = Piece(index, chunk, first, last)
            if last == first or piece.num_outputs > room:
                yield pieces
                pieces, room = [], max_outputs
                continue
            pieces.append(piece)
            room -= piece.num_outputs
            first = last
    if pieces:
        yield pieces
