"""One sequence: its tokens, how many of them are computed, and where it stands in its life.

A `Sequence` is owned by the scheduler, which alone mutates it, and is seen by nobody above the step loop. May not
import backends or asyncio.

    WAITING --admitted--> RUNNING --finished--> FINISHED
       ^                    |
       +----- preempted ----+        (its KV is released; all its tokens are computed again)
"""

from enum import Enum, auto

from pagemill.engine.constraint import Constraint
from pagemill.generation import FinishReason, SamplingParams


class SequenceStatus(Enum):
    """Where a sequence stands; see the module's drawing."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


class Sequence:
    """A prompt and what has been generated after it.

    `num_computed` counts tokens from position 0 whose KV is in the cache, `num_scheduled` those too that a step in
    flight computes. `num_pending` tokens are being sampled: they come after `token_ids` and are not known yet. The
    sequence is decoding when all but its last token, known or pending, are scheduled.
    """

    __slots__ = (
        "constraint",
        "finish_reason",
        "max_tokens",
        "num_cached",
        "num_computed",
        "num_pending",
        "num_prompt_tokens",
        "num_scheduled",
        "priority",
        "request_id",
        "sampling",
        "sequence_id",
        "started",
        "status",
        "token_ids",
    )

    def __init__(
        self,
        sequence_id: int,
        request_id: str,
        prompt_token_ids: tuple[int, ...],
        sampling: SamplingParams,
        *,
        max_tokens: int,
        priority: int = 0,
        constraint: Constraint | None = None,
    ) -> None:
        self.sequence_id = sequence_id  # also its order of arrival
        self.request_id = request_id
        self.token_ids = list(prompt_token_ids)
        self.num_prompt_tokens = len(prompt_token_ids)
        self.sampling = sampling
        self.max_tokens = max_tokens
        self.priority = priority
        self.constraint = constraint  # None: any output
        self.status = SequenceStatus.WAITING
        self.num_computed = 0
        self.num_scheduled = 0
        self.num_pending = 0
        self.num_cached = 0  # prompt tokens that the first admission found in the cache
        self.started = False  # whether the backend knows it
        self.finish_reason: FinishReason | None = None

    @property
    def num_tokens(self) -> int:
        """Prompt and output tokens."""
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def prompt_token_ids(self) -> tuple[int, ...]:
        return tuple(self.token_ids[: self.num_prompt_tokens])

    @property
    def rank(self) -> tuple[int, int]:
        """Its place in line: by priority, then by arrival. Lower goes first."""
        return (self.priority, self.sequence_id)
