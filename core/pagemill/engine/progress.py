"""What one step gave one sequence, on its way from the scheduler to the sequence's output. May not import backends."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Self

from pagemill.engine.sequence import Sequence
from pagemill.errors import StructuredOutputError
from pagemill.generation import FinishReason, TokenLogprobs


@dataclass(slots=True)
class Progress:
    """A sequence's new token, if there is one; `finish_reason` if it was the last."""

    sequence: Sequence
    token_id: int | None
    logprobs: TokenLogprobs | None = None
    finish_reason: FinishReason | None = None
    stop_token_id: int | None = None  # the stop token that ended it, if one of the request's own
    completes: bool = False  # with STOP: the token is the output's last, not one that only ends it
    error: str | None = None  # with FinishReason.ERROR

    @classmethod
    def by(
        cls, sequence: Sequence, token_id: int, logprobs: TokenLogprobs | None, eos_token_ids: AbstractSet[int]
    ) -> Self:
        """Append a sampled token to the sequence, unless only the prompt was asked for, and see whether it ends it."""
        if sequence.max_tokens == 0:
            return cls(sequence, None, finish_reason=FinishReason.LENGTH)
        sequence.token_ids.append(token_id)
        progress = cls(sequence, token_id, logprobs)
        sampling = sequence.sampling
        if sequence.num_output_tokens > sampling.min_tokens:
            if token_id in sampling.stop_token_ids:
                progress.finish_reason, progress.stop_token_id = FinishReason.STOP, token_id
            elif token_id in eos_token_ids and not sampling.ignore_eos:
                progress.finish_reason = FinishReason.STOP
        if progress.finish_reason is None:
            progress._hold_to_format()
        if progress.finish_reason is None and sequence.num_output_tokens >= sequence.max_tokens:
            progress.finish_reason = FinishReason.LENGTH
        return progress

    def _hold_to_format(self) -> None:
        """Take the new token, which ends nothing, into the sequence's constraint, if it has one: that may complete the
        output, or fail.
        """
        constraint = self.sequence.constraint
        if constraint is None or self.token_id is None:
            return
        try:
            constraint.advance(self.token_id, self.sequence.num_output_tokens)
        except StructuredOutputError as error:
            self.finish_reason, self.error = FinishReason.ERROR, str(error)
            return
        if constraint.allowed is None:
            self.finish_reason, self.completes = FinishReason.STOP, True
