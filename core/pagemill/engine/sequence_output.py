"""One sequence's output on its way out: tokens become text, stop strings end it, deltas and timings are made.

Owned by the step loop's thread. May not import backends or asyncio.
"""

from collections.abc import Callable

from pagemill.engine.detokenizer import IncrementalDetokenizer
from pagemill.engine.progress import Progress
from pagemill.engine.sequence import Sequence
from pagemill.engine.stop_strings import StopStrings
from pagemill.generation import Delta, FinishReason, Timings, TokenLogprobs, Usage


class SequenceOutput:
    """See the module. `arrived_at` and `now` are seconds of one monotonic clock."""

    __slots__ = (
        "_choice_index",
        "_detokenizer",
        "_first_token_at",
        "_prompt_logprobs",
        "_scheduled_at",
        "_stops",
        "arrived_at",
        "last_token_at",
        "sequence",
    )

    def __init__(
        self, sequence: Sequence, choice_index: int, token_bytes: Callable[[int], bytes], arrived_at: float
    ) -> None:
        self.sequence = sequence
        self._choice_index = choice_index
        self._detokenizer = IncrementalDetokenizer(token_bytes)
        sampling = sequence.sampling
        self._stops = (
            StopStrings(sampling.stop, include_stop=sampling.include_stop_str_in_output) if sampling.stop else None
        )
        self.arrived_at = arrived_at
        self._scheduled_at: float | None = None
        self._first_token_at: float | None = None
        self.last_token_at: float | None = None
        self._prompt_logprobs: list[TokenLogprobs | None] | None = None if sampling.prompt_logprobs is None else [None]

    def scheduled(self, now: float) -> None:
        """The sequence is in its first step."""
        self._scheduled_at = now

    def add_prompt_logprobs(self, start: int, entries: tuple[TokenLogprobs, ...]) -> None:
        """Those of the prompt tokens from position `start` + 1 on; computed again after a preemption, they replace."""
        if self._prompt_logprobs is not None:
            self._prompt_logprobs[start + 1 :] = entries

    def advance(self, progress: Progress, now: float) -> Delta:
        """Take a new token in. The delta's `finish_reason` is set if the sequence has ended, by the scheduler's word or
        because a stop string was found: then the caller must tell the scheduler.
        """
        if self._first_token_at is None:
            self._first_token_at = now
        self.last_token_at = now
        if progress.token_id is None:
            return self._delta("", (), (), progress.finish_reason, None, now)
        sampling = self.sequence.sampling
        reason, stop_reason = progress.finish_reason, progress.stop_token_id
        text = ""
        if reason is not FinishReason.STOP or progress.completes or sampling.include_stop_str_in_output:
            text = self._detokenizer.add(progress.token_id)
        found: str | None = None
        if self._stops is not None and self.sequence.num_output_tokens > sampling.min_tokens:
            text, found = self._stops.add(text)
            if found is not None:
                reason = FinishReason.STOP
        if reason is not None and found is None and self._stops is not None:
            text += self._stops.finish()
        logprobs = () if progress.logprobs is None else (progress.logprobs,)
        stopped_by = stop_reason if found is None else found
        return self._delta(text, (progress.token_id,), logprobs, reason, stopped_by, now, progress.error)

    def end(self, reason: FinishReason, now: float, error: str | None = None) -> Delta:
        """The sequence was ended from outside: aborted, or failed."""
        text = "" if self._stops is None else self._stops.finish()
        return self._delta(text, (), (), reason, None, now, error)

    def usage(self) -> Usage:
        """Counts so far."""
        sequence = self.sequence
        return Usage(sequence.num_prompt_tokens, sequence.num_output_tokens, sequence.num_cached)

    def _delta(
        self,
        text: str,
        token_ids: tuple[int, ...],
        logprobs: tuple[TokenLogprobs, ...],
        reason: FinishReason | None,
        stop_reason: str | int | None,
        now: float,
        error: str | None = None,
    ) -> Delta:
        prompt_logprobs = None
        if self._prompt_logprobs is not None:
            prompt_logprobs, self._prompt_logprobs = tuple(self._prompt_logprobs), None
        return Delta(
            self._choice_index,
            text,
            token_ids,
            self.usage(),
            logprobs,
            prompt_logprobs,
            reason,
            stop_reason,
            None if reason is None else self._timings(now),
            error,
        )

    def _timings(self, now: float) -> Timings:
        scheduled_at = now if self._scheduled_at is None else self._scheduled_at
        first_token_at = now if self._first_token_at is None else self._first_token_at
        last_token_at = first_token_at if self.last_token_at is None else self.last_token_at
        return Timings(
            queue_s=scheduled_at - self.arrived_at,
            prefill_s=first_token_at - scheduled_at,
            decode_s=last_token_at - first_token_at,
        )
