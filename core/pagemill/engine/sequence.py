"""One sequence: its tokens, how many of them are computed, and where it stands in its life.

A `Sequence` is owned by the scheduler, which alone mutates it, and is seen by nobody above the step loop. May not
import backends or asyncio.

    WAITING --admitted--> RUNNING --finished--> FINISHED
       ^                    |
       +----- preempted ----+        (its KV is released; all its tokens are computed again)
       +------ shifted -----+        (likewise, but for the tokens that its full context has dropped)
"""

from enum import Enum, auto

from pagemill.engine.constraint import Constraint
from pagemill.engine.context_window import ContextWindow
from pagemill.engine.step import SequenceShift
from pagemill.generation import FinishReason, SamplingParams


class SequenceStatus(Enum):
    """Where a sequence stands; see the module's drawing."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


class Sequence:
    """A prompt and what has been generated after it, as far as its context (`token_ids`) holds them.

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
        "num_dropped",
        "num_pending",
        "num_prompt_tokens",
        "num_scheduled",
        "priority",
        "prompt_token_ids",
        "request_id",
        "sampling",
        "sequence_id",
        "started",
        "status",
        "token_ids",
        "window",
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
        window: ContextWindow | None = None,
    ) -> None:
        self.sequence_id = sequence_id  # also its order of arrival
        self.request_id = request_id
        self.prompt_token_ids = prompt_token_ids
        self.token_ids = list(prompt_token_ids)
        self.num_prompt_tokens = len(prompt_token_ids)
        self.sampling = sampling
        self.max_tokens = max_tokens
        self.priority = priority
        self.constraint = constraint  # None: any output
        self.window = window  # None: prompt and `max_tokens` fit the context
        self.status = SequenceStatus.WAITING
        self.num_computed = 0
        self.num_scheduled = 0
        self.num_pending = 0
        self.num_dropped = 0  # of its tokens, by shifts
        self.num_cached = 0  # prompt tokens that the first admission found in the cache
        self.started = False  # whether the backend knows it
        self.finish_reason: FinishReason | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens of its context."""
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        """All of them, also those that its context has dropped."""
        return len(self.token_ids) + self.num_dropped - self.num_prompt_tokens

    @property
    def is_full(self) -> bool:
        """Whether its context is full: `shift` comes before its next token."""
        return self.window is not None and len(self.token_ids) >= self.window.length

    @property
    def may_be_followed(self) -> bool:
        """Whether, with a token pending, the next may be planned already: not if the pending one decides what may come
        next, is the last, or fills the context.
        """
        if self.constraint is not None or self.num_output_tokens + self.num_pending >= self.max_tokens:
            return False
        return self.window is None or len(self.token_ids) + self.num_pending < self.window.length

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether they are still to come."""
        return self.sampling.prompt_logprobs is not None and self.num_output_tokens == 0

    @property
    def rank(self) -> tuple[int, int]:
        """Its place in line: by priority, then by arrival. Lower goes first."""
        return (self.priority, self.sequence_id)

    def shift(self) -> SequenceShift:
        """Make room in the full context. Its KV, if it has any, is of no use any more."""
        assert self.window is not None, "only a window can be full"
        num_kept, num_dropped = self.window.num_kept, self.window.num_dropped
        # A new list: a KV cache may hold on to the old one.
        self.token_ids = self.token_ids[:num_kept] + self.token_ids[num_kept + num_dropped :]
        self.num_dropped += num_dropped
        return SequenceShift(self.sequence_id, num_kept, num_dropped)
