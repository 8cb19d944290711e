"""What one step runs (`StepPlan`) and what came out of it (`StepResult`): plain, immutable data.

The scheduler makes plans, a backend executes them; neither knows the other. Being plain data they can be logged,
replayed, and broadcast to tensor-parallel ranks. Owns no state. All are NamedTuples: those of a sequence are made for
every sequence of every step, and the classes themselves at every start of a server.
"""

from collections.abc import Sequence as ReadOnlySequence
from typing import NamedTuple

from pagemill.generation import SamplingParams, TokenLogprobs


class SequenceStart(NamedTuple):
    """A sequence that the backend sees for the first time. What it keeps for it (a sampler) is keyed by `sequence_id`
    and lives until the id appears in `StepPlan.ended`, across preemptions.
    """

    sequence_id: int
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams  # seed already made distinct for each of a request's n sequences


class SequenceShift(NamedTuple):
    """A sequence's context was full: the tokens at [num_kept, num_kept + num_dropped) have left it, those after them
    have moved down, and later chunks compute it anew. A sampler goes on as if nothing had happened.
    """

    sequence_id: int
    num_kept: int
    num_dropped: int


class SequenceChunk(NamedTuple):
    """Tokens of one sequence to compute in this step: one when it decodes, more when it prefills.

    When a step is planned while the one before it still runs (`PipelinedBackend`), a decode's token may not be known
    yet: then `follows` says that it is the one which the step before samples for this sequence.
    """

    sequence_id: int
    token_ids: ReadOnlySequence[int]  # empty if `follows`
    start: int  # position of the first; [0, start) are in the KV cache already
    placement: tuple[int, ...]  # where its KV lives: its block ids in order, or its one slot
    sample: bool  # whether to sample from the last token's logits
    prompt_logprobs: bool = False  # whether to return logprobs for what follows each of these tokens in the prompt
    follows: bool = False
    allowed: bytes | None = None  # with `sample`: no tokens but these (`TokenMatcher.allowed`); None: all of them

    @property
    def num_tokens(self) -> int:
        return 1 if self.follows else len(self.token_ids)


class CopyKV(NamedTuple):
    """Copy KV before the step runs: positions [0, num_tokens) of one slot to another, or of one block to another.

    In a slot, what the destination held before is forgotten, all of it.
    """

    source: int
    destination: int
    num_tokens: int


class TruncateKV(NamedTuple):
    """Forget all of a slot but positions [0, num_tokens), before the step runs. Never used with blocks."""

    slot: int
    num_tokens: int


KVOperation = CopyKV | TruncateKV


class StepPlan(NamedTuple):
    """One step: free what `ended`, prepare what `started`, do `kv_operations` in order, then compute `chunks`.

    `chunks` may be empty: such a plan only frees. `num_tokens` is the sum over the chunks.
    """

    step_id: int
    started: tuple[SequenceStart, ...] = ()
    ended: tuple[int, ...] = ()
    kv_operations: tuple[KVOperation, ...] = ()
    chunks: tuple[SequenceChunk, ...] = ()
    num_tokens: int = 0
    shifted: tuple[SequenceShift, ...] = ()  # none of which is in the step before, if that is still in flight


class SampledToken(NamedTuple):
    """The token sampled for one chunk. `logprobs` if its sequence asks for them."""

    sequence_id: int
    token_id: int
    logprobs: TokenLogprobs | None = None


class PromptLogprobs(NamedTuple):
    """For a chunk with `prompt_logprobs`: entry i is the logprob of the prompt token at position `start + i + 1`, as
    the chunk's token at `start + i` predicts it. The prompt's last token predicts no prompt token and has no entry.
    """

    sequence_id: int
    start: int  # the chunk's
    entries: tuple[TokenLogprobs, ...]


class StepResult(NamedTuple):
    """What a step gave: one `SampledToken` for each chunk with `sample`, in the order of the chunks."""

    sampled: tuple[SampledToken, ...] = ()
    prompt_logprobs: tuple[PromptLogprobs, ...] = ()
