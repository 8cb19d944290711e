"""A scheduler over the fake backend, stepped by hand, and what a sequence says when it is alone."""

from collections.abc import Sequence as ReadOnlySequence
from dataclasses import dataclass, field
from typing import Any

from pagemill.backends.fake import EOS, FakeBackend
from pagemill.backends.fake.distribution import hashed_logits
from pagemill.engine.context_window import ContextWindow
from pagemill.engine.kv_cache import KVCache
from pagemill.engine.scheduler import Scheduler, SchedulerConfig
from pagemill.engine.sequence import Sequence
from pagemill.engine.step import StepPlan, StepResult
from pagemill.generation import SamplingParams


@dataclass
class Rig:
    """A scheduler, its cache and a fake backend, stepped by hand. Pipelined, a step is committed after the next ran."""

    backend: FakeBackend
    kv_cache: KVCache
    scheduler: Scheduler
    in_flight: tuple[StepPlan, StepResult] | None = None
    said: dict[int, list[int]] = field(default_factory=dict)  # output tokens by sequence, also those that were dropped

    @classmethod
    def build(cls, backend: FakeBackend, *, prefix_caching: bool = True) -> "Rig":
        kv_cache = backend.new_kv_cache(enable_prefix_caching=prefix_caching)
        config = SchedulerConfig(
            max_num_seqs=backend.max_num_seqs,
            max_num_batched_tokens=backend.max_num_batched_tokens,
            eos_token_ids=backend.tokenizer.eos_token_ids,
        )
        return cls(backend, kv_cache, Scheduler(kv_cache, config))

    def add(
        self,
        sequence_id: int,
        prompt: bytes,
        *,
        max_tokens: int = 8,
        priority: int = 0,
        window: ContextWindow | None = None,
        **sampling: Any,
    ) -> Sequence:
        sequence = Sequence(
            sequence_id,
            str(sequence_id),
            tuple(prompt),
            SamplingParams(temperature=0, **sampling),
            max_tokens=max_tokens,
            priority=priority,
            window=window,
        )
        self.said[sequence_id] = []
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> StepPlan:
        plan = self.scheduler.schedule()
        self.kv_cache.check_integrity()
        ran = (plan, self.backend.execute(plan))
        due, self.in_flight = (self.in_flight, ran) if self.backend.pipelined else (ran, None)
        if due is not None:
            for progress in self.scheduler.commit(*due):
                if progress.token_id is not None:
                    self.said[progress.sequence.sequence_id].append(progress.token_id)
            self.kv_cache.check_integrity()
        return plan

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work or (self.in_flight is not None and bool(self.in_flight[0].chunks))

    def run(self) -> list[StepPlan]:
        plans = []
        while self.has_work:
            plans.append(self.step())
            assert len(plans) < 2000, "the scheduler makes no progress"
        return plans


def sizes(plan: StepPlan) -> dict[int, int]:
    return {chunk.sequence_id: chunk.num_tokens for chunk in plan.chunks}


def said_alone(
    prompt: ReadOnlySequence[int],
    script: ReadOnlySequence[int] | None,
    max_tokens: int,
    window: ContextWindow | None,
    *,
    ignore_eos: bool = False,
) -> list[int]:
    """What the fake backend says to a prompt, greedily: its script, or without one the most likely token each time, by
    the context that there is. A full one drops half of what comes after its first tokens.
    """
    if script is not None:
        return list(script[:max_tokens])
    context, said = list(prompt), list[int]()
    while len(said) < max_tokens and (ignore_eos or EOS not in said):
        if window is not None and len(context) == window.length:
            rest = context[window.num_kept :]
            context = context[: window.num_kept] + rest[max(len(rest) // 2, 1) :]
        logits = hashed_logits(context)
        said.append(logits.index(max(logits)))
        context.append(said[-1])
    return said
