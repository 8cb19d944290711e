"""Continuous batching under a token budget: which sequences run in the next step, and on which of their tokens.

One step holds decodes (one token each) and chunks of prompts together (Sarathi-Serve's chunked prefill, Agrawal et al.
2024, arXiv:2403.02310). In order: running sequences that decode, running ones that prefill, then waiting ones by
(priority, arrival) while there are seats, tokens and KV. When a running sequence finds no room for its next token, the
last in line gives its KV back and is computed again later (preemption by recompute). So does one whose context is full
and that may outgrow it, after the older half of its context has been dropped (context shift).

A waiting sequence whose prefix a running one is just computing waits for it instead of computing it too.

A step may be planned before the one before it is committed (`PipelinedBackend`). Then a sequence that is being decoded
goes on with a token that is not known yet; if that token turns out to end it, what the later step gives is passed over.
One whose output is held to a format waits for its token, which decides what may come next; so does one whose context it
fills.

Owns all sequences that are not finished. One thread calls it; it does no I/O and reads no clock, so the same arrivals
give the same plans. May not import backends.
"""

from bisect import insort
from dataclasses import dataclass

from pagemill.engine.kv_cache import KVCache
from pagemill.engine.progress import Progress
from pagemill.engine.sequence import Sequence, SequenceStatus
from pagemill.engine.step import KVOperation, SequenceChunk, SequenceShift, SequenceStart, StepPlan, StepResult
from pagemill.generation import FinishReason, TokenLogprobs

MIN_DEFERRAL_TOKENS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """Limits of one step, and what ends a sequence."""

    max_num_seqs: int
    max_num_batched_tokens: int
    eos_token_ids: frozenset[int]

    def __post_init__(self) -> None:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) must be at least max_num_seqs "
                f"({self.max_num_seqs}): each running sequence decodes a token a step"
            )


class Scheduler:
    """See the module. A step is: `plan = schedule()`, the backend executes it, `commit(plan, result)`."""

    def __init__(self, kv_cache: KVCache, config: SchedulerConfig) -> None:
        self.kv_cache = kv_cache
        self.config = config
        self.num_preemptions = 0
        self.num_shifts = 0
        self._waiting: list[Sequence] = []  # in rank order
        self._running: list[Sequence] = []  # in rank order
        self._sequences: dict[int, Sequence] = {}  # both, by id
        self._full: list[Sequence] = []  # to be shifted, unless they have ended since
        self._ended: list[int] = []  # finished since the last plan, and known to the backend
        self._step_id = 0

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def has_work(self) -> bool:
        """Whether there is anything to plan: sequences to run, or ended ones of which the backend must hear."""
        return bool(self._waiting or self._running or self._ended)

    def get(self, sequence_id: int) -> Sequence | None:
        """A sequence that is not finished."""
        return self._sequences.get(sequence_id)

    def unfinished(self) -> list[Sequence]:
        """All sequences that are not finished, in rank order."""
        return sorted(self._sequences.values(), key=_rank)

    def add(self, sequence: Sequence) -> None:
        """Put a new sequence in line. Its length was checked: alone, it fits the KV cache."""
        self._sequences[sequence.sequence_id] = sequence
        insort(self._waiting, sequence, key=_rank)

    def finish(self, sequence: Sequence, reason: FinishReason, *, forget: bool = False) -> None:
        """End a sequence in any state, give its KV back. No effect on one that is finished."""
        if sequence.status is SequenceStatus.FINISHED:
            return
        if sequence.status is SequenceStatus.RUNNING:
            self._running.remove(sequence)
            self.kv_cache.release(sequence.sequence_id, forget=forget)
        else:
            self._waiting.remove(sequence)
        sequence.status = SequenceStatus.FINISHED
        sequence.finish_reason = reason
        del self._sequences[sequence.sequence_id]
        if sequence.started:
            self._ended.append(sequence.sequence_id)

    def schedule(self) -> StepPlan:
        """Decide the next step. Mutates the line and the KV cache's bookkeeping; `commit` must follow, in the order of
        the plans, with at most one other plan made in between.
        """
        step = _Step(self.config.max_num_batched_tokens)
        self._shift_full(step)
        self._schedule_running(step)
        self._admit_waiting(step)
        self._step_id += 1
        ended, self._ended = tuple(self._ended), []
        return StepPlan(
            step_id=self._step_id,
            started=tuple(step.started),
            ended=ended,
            kv_operations=tuple(step.kv_operations),
            chunks=tuple(step.chunks.values()),
            num_tokens=self.config.max_num_batched_tokens - step.budget,
            shifted=tuple(step.shifted),
        )

    def commit(self, plan: StepPlan, result: StepResult) -> list[Progress]:
        """Take in what the step gave: tokens, computed KV, ends. Returns one `Progress` for each sampled token.

        Sequences that ended since the plan was made are passed over. One that was preempted since keeps its token, but
        has no KV any more.
        """
        for chunk in plan.chunks:
            sequence = self._sequences.get(chunk.sequence_id)
            if sequence is not None and sequence.status is SequenceStatus.RUNNING:
                sequence.num_computed = chunk.start + chunk.num_tokens
                self.kv_cache.commit(chunk.sequence_id, sequence.num_computed)
        progress = []
        for sampled in result.sampled:
            sequence = self._sequences.get(sampled.sequence_id)
            if sequence is not None:
                progress.append(self._append(sequence, sampled.token_id, sampled.logprobs))
        return progress

    def _append(self, sequence: Sequence, token_id: int, logprobs: TokenLogprobs | None) -> Progress:
        sequence.num_pending -= 1
        progress = Progress.by(sequence, token_id, logprobs, self.config.eos_token_ids)
        if progress.finish_reason is not None:
            self.finish(sequence, progress.finish_reason)
        elif sequence.is_full:
            self._full.append(sequence)
        return progress

    def _shift_full(self, step: "_Step") -> None:
        full, self._full = self._full, []
        for sequence in full:
            if sequence.status is SequenceStatus.FINISHED:
                continue
            if sequence.status is SequenceStatus.RUNNING:
                self._put_back(sequence)
            step.shifted.append(sequence.shift())
            self.num_shifts += 1

    def _schedule_running(self, step: "_Step") -> None:
        """Decodes before prefills, each in line. May preempt the last in line, also one already in the step."""
        decodes: list[Sequence] = []
        prefills: list[Sequence] = []
        for sequence in self._running:
            if sequence.num_pending and not sequence.may_be_followed:
                continue
            num_left = len(sequence.token_ids) + sequence.num_pending - sequence.num_scheduled
            (prefills if num_left > 1 else decodes).append(sequence)
        for sequence in decodes + prefills:
            if sequence.status is not SequenceStatus.RUNNING:  # preempted for one before it
                continue
            num_left = len(sequence.token_ids) + sequence.num_pending - sequence.num_scheduled
            num_new = min(num_left, step.budget)
            if num_new > 0 and self._make_room(sequence, sequence.num_scheduled + num_new, step):
                self._put(sequence, num_new, step)

    def _make_room(self, sequence: Sequence, num_tokens: int, step: "_Step") -> bool:
        """Preempt from the end of the line until the sequence fits. False: it was preempted itself."""
        while not self.kv_cache.extend(sequence.sequence_id, num_tokens):
            victim = self._running[-1]
            self._preempt(victim, step)
            if victim is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence, step: "_Step") -> None:
        if step.take_back(sequence.sequence_id):
            sequence.num_pending -= 1
        self._put_back(sequence)
        step.preempted = True
        self.num_preemptions += 1

    def _put_back(self, sequence: Sequence) -> None:
        """A running sequence waits again, with nothing computed."""
        self._running.remove(sequence)
        self.kv_cache.release(sequence.sequence_id)
        sequence.status = SequenceStatus.WAITING
        sequence.num_computed = sequence.num_scheduled = 0
        insort(self._waiting, sequence, key=_rank)

    def _admit_waiting(self, step: "_Step") -> None:
        if step.preempted:  # whoever came in now would be thrown out for want of room
            return
        num_deferred = 0
        for sequence in list(self._waiting):
            seats = self.config.max_num_seqs - len(self._running) - num_deferred
            if seats <= 0 or step.budget <= 0:
                return
            if self._should_defer(sequence):
                num_deferred += 1
            elif not self._admit(sequence, step):
                return

    def _should_defer(self, sequence: Sequence) -> bool:
        """Whether a running sequence is computing so much of this one's prefix that waiting beats computing it twice.

        A few common tokens (the head of a chat template) are not worth a step's delay.
        """
        if not self._running or sequence.wants_prompt_logprobs:
            return False
        match = self.kv_cache.match(sequence.token_ids)
        saved, uncached = match.num_pending - match.num_cached, sequence.num_tokens - match.num_cached
        return saved >= MIN_DEFERRAL_TOKENS and 2 * saved >= uncached

    def _admit(self, sequence: Sequence, step: "_Step") -> bool:
        reuse = not sequence.wants_prompt_logprobs  # a cached token gives no logits
        num_new = min(sequence.num_tokens, step.budget)
        admission = self.kv_cache.admit(sequence.sequence_id, sequence.token_ids, num_new, reuse=reuse)
        if admission is None:
            return False
        self._waiting.remove(sequence)
        insort(self._running, sequence, key=_rank)
        sequence.status = SequenceStatus.RUNNING
        sequence.num_computed = sequence.num_scheduled = admission.num_cached
        if not sequence.started:
            sequence.started = True
            sequence.num_cached = admission.num_cached
            step.started.append(SequenceStart(sequence.sequence_id, sequence.prompt_token_ids, sequence.sampling))
        step.kv_operations.extend(admission.operations)
        self._put(sequence, min(sequence.num_tokens - admission.num_cached, step.budget), step)
        return True

    def _put(self, sequence: Sequence, num_new: int, step: "_Step") -> None:
        sequence_id, start, num_known = sequence.sequence_id, sequence.num_scheduled, len(sequence.token_ids)
        end = start + num_new
        sample = end == num_known + sequence.num_pending
        step.budget -= num_new
        step.chunks[sequence_id] = SequenceChunk(
            sequence_id,
            sequence.token_ids[start:end],
            start,
            self.kv_cache.placement(sequence_id),
            sample,
            sequence.wants_prompt_logprobs and start < sequence.num_prompt_tokens,
            start == num_known,  # follows
            sequence.constraint.allowed if sample and sequence.constraint is not None else None,
        )
        sequence.num_scheduled = end
        sequence.num_pending += sample


class _Step:
    """A plan in the making."""

    __slots__ = ("budget", "chunks", "kv_operations", "preempted", "shifted", "started")

    def __init__(self, budget: int) -> None:
        self.budget = budget  # tokens left
        self.chunks: dict[int, SequenceChunk] = {}
        self.started: list[SequenceStart] = []
        self.shifted: list[SequenceShift] = []
        self.kv_operations: list[KVOperation] = []
        self.preempted = False

    def take_back(self, sequence_id: int) -> bool:
        """The sequence is not in the step after all. Whether it would have been sampled for."""
        chunk = self.chunks.pop(sequence_id, None)
        if chunk is None:
            return False
        self.budget += chunk.num_tokens
        return chunk.sample


def _rank(sequence: Sequence) -> tuple[int, int]:
    return sequence.rank
