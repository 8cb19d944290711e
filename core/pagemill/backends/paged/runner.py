"""Runs step plans on a model: lays a step out, computes it, samples. Owns the model, its pages and its samplers.

`launch` returns as soon as the device has its work; `RunningStep.result` waits for it. Nothing in between reads from
the device, so on a GPU a step's tokens may go straight into the next one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pagemill.backends.paged.batch import BatchBuilder, StepInput
from pagemill.backends.paged.kv_pool import KVPool
from pagemill.backends.paged.model import PagedModel
from pagemill.backends.paged.sampling import SampledBatch, Sampler, prompt_logprobs
from pagemill.engine.step import PromptLogprobs, SequenceChunk, SequenceStart, StepPlan, StepResult
from pagemill.errors import BackendError
from pagemill.generation import TokenLogprobs

if TYPE_CHECKING:
    from pagemill.backends.paged.graphs import DecodeGraphs

PROMPT_LOGITS_BYTES = 64 * 2**20  # of logits that are held at once for prompt logprobs


@dataclass(frozen=True, slots=True)
class RunningStep:
    """A step on its way. `failure` if it could not be launched."""

    samples: SampledBatch | None
    prompt_logprobs: tuple[PromptLogprobs, ...] = ()
    failure: BackendError | None = None

    def result(self) -> StepResult:
        """Wait for the step's end. Raises BackendError."""
        if self.failure is not None:
            raise self.failure
        if self.samples is None:
            return StepResult((), self.prompt_logprobs)
        with _translated_errors():
            return StepResult(self.samples.collect(), self.prompt_logprobs)


class ModelRunner:
    """See the module. One thread calls it."""

    def __init__(
        self, model: PagedModel, pool: KVPool, sampler: Sampler, builder: BatchBuilder, graphs: "DecodeGraphs | None"
    ) -> None:
        self._model = model
        self._pool = pool
        self._sampler = sampler
        self._builder = builder
        self._graphs = graphs
        self._scored: dict[int, SequenceStart] = {}  # sequences that ask for prompt logprobs
        self._last_samples: Tensor | None = None  # token ids of the last step's samples
        self._sample_of: Mapping[int, int] = {}  # which of them is a sequence's

    def launch(self, plan: StepPlan) -> RunningStep:
        """Begin the step. What fails is told by the step's `result`."""
        try:
            with torch.inference_mode(), _translated_errors():
                return self._launch(plan)
        except BackendError as error:
            return RunningStep(None, failure=error)

    def save_kv(self, blocks: tuple[int, ...], num_tokens: int) -> memoryview:
        """See `Backend`. Waits for the device."""
        with torch.inference_mode(), _translated_errors():
            return self._pool.save(blocks, num_tokens)

    def load_kv(self, blocks: tuple[int, ...], data: memoryview) -> None:
        """See `Backend`. Waits for the device, so that the data may go."""
        with torch.inference_mode(), _translated_errors():
            self._pool.load(blocks, data)

    def _launch(self, plan: StepPlan) -> RunningStep:
        for sequence_id in plan.ended:
            self._sampler.end(sequence_id)
            self._scored.pop(sequence_id, None)
        self._builder.forget(plan.ended)
        for start in plan.started:
            self._sampler.start(start)
            if start.sampling.prompt_logprobs is not None:
                self._scored[start.sequence_id] = start
        self._pool.apply(plan.kv_operations)
        if not plan.chunks:
            return RunningStep(None)
        step = self._builder.build(plan, self._sample_of)
        if self._last_samples is not None and len(step.follower_rows):
            followed = self._last_samples.index_select(0, step.followed_samples)
            step.token_ids.index_copy_(0, step.follower_rows, followed)
        return self._compute(plan, step)

    def _compute(self, plan: StepPlan, step: StepInput) -> RunningStep:
        to_score = [chunk for chunk in plan.chunks if chunk.prompt_logprobs]
        if to_score:
            everything = self._forward(step, None)
            scored = tuple(self._score(chunk, step, everything) for chunk in to_score)
            hidden = everything.index_select(0, step.sample_rows)
        else:
            scored, hidden = (), self._forward(step, step.sample_rows)
        sampled = [chunk for chunk in plan.chunks if chunk.sample]
        if not sampled:
            return RunningStep(None, scored)
        sequence_ids = [chunk.sequence_id for chunk in sampled]
        samples = self._sampler.sample(self._model.logits(hidden), sequence_ids, [chunk.allowed for chunk in sampled])
        self._last_samples = samples.token_ids
        self._sample_of = {sequence_id: index for index, sequence_id in enumerate(sequence_ids)}
        return RunningStep(samples, scored)

    def _forward(self, step: StepInput, rows: Tensor | None) -> Tensor:
        inputs = (step.token_ids, step.positions, step.batch, self._pool.layers)
        hidden = self._graphs.forward(*inputs) if self._graphs is not None else None
        if hidden is None:
            all_in_order = rows is None or len(rows) == len(step.token_ids)  # each decodes: as the batch has them
            return self._model.forward(*inputs, None if all_in_order else rows)
        return hidden if rows is None else hidden.index_select(0, rows)

    def _score(self, chunk: SequenceChunk, step: StepInput, hidden: Tensor) -> PromptLogprobs:
        """The logprobs of the prompt tokens after the chunk's. Few ask for them, so this may wait for the device."""
        start = self._scored[chunk.sequence_id]
        targets = start.prompt_token_ids[chunk.start + 1 : chunk.start + chunk.num_tokens + 1]
        first_row = step.first_rows[chunk.sequence_id]
        num_rows = max(1, PROMPT_LOGITS_BYTES // (4 * self._model.vocab_size))
        entries: list[TokenLogprobs] = []
        for first in range(0, len(targets), num_rows):
            wanted = targets[first : first + num_rows]
            logits = self._model.logits(hidden[first_row + first : first_row + first + len(wanted)])
            entries += prompt_logprobs(logits, wanted, start.sampling.prompt_logprobs or 0)
        return PromptLogprobs(chunk.sequence_id, chunk.start, tuple(entries))


class _translated_errors:  # noqa: N801 (a context manager, used as a function is)
    """torch's errors become BackendErrors."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, RuntimeError):  # torch.OutOfMemoryError is one
            raise BackendError(f"the step failed on the device: {error}") from error
