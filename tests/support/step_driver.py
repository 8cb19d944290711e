"""Drives a backend with hand-written step plans, as the engine would: for tests of backends alone."""

from collections.abc import Sequence

from pagemill.backends.base import Backend
from pagemill.engine.step import KVOperation, SampledToken, SequenceChunk, SequenceStart, StepPlan, StepResult
from pagemill.generation import SamplingParams

GREEDY = SamplingParams(temperature=0.0)


class StepDriver:
    """Counts the steps of one backend, and keeps each sequence's tokens. A sequence's slot is its id."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.tokens: dict[int, list[int]] = {}
        self.num_computed: dict[int, int] = {}
        self._starts: list[SequenceStart] = []
        self._num_steps = 0

    def start(self, sequence_id: int, prompt: Sequence[int], sampling: SamplingParams = GREEDY) -> None:
        """Announce a sequence with the next step."""
        self._starts.append(SequenceStart(sequence_id, tuple(prompt), sampling))
        self.tokens[sequence_id] = list(prompt)
        self.num_computed[sequence_id] = 0

    def chunk(self, sequence_id: int, num_tokens: int | None = None, *, prompt_logprobs: bool = False) -> SequenceChunk:
        """The sequence's next `num_tokens` (None: all it has) to compute; samples if they are its last."""
        tokens, start = self.tokens[sequence_id], self.num_computed[sequence_id]
        end = len(tokens) if num_tokens is None else start + num_tokens
        self.num_computed[sequence_id] = end
        sample = end == len(tokens)
        return SequenceChunk(sequence_id, tuple(tokens[start:end]), start, (sequence_id,), sample, prompt_logprobs)

    def step(
        self, *chunks: SequenceChunk, operations: Sequence[KVOperation] = (), ended: Sequence[int] = ()
    ) -> StepResult:
        """Run one step, and append what it sampled."""
        self._num_steps += 1
        plan = StepPlan(
            step_id=self._num_steps,
            started=tuple(self._starts),
            ended=tuple(ended),
            kv_operations=tuple(operations),
            chunks=chunks,
            num_tokens=sum(len(chunk.token_ids) for chunk in chunks),
        )
        self._starts.clear()
        result = self.backend.execute(plan)
        for sampled in result.sampled:
            self.tokens[sampled.sequence_id].append(sampled.token_id)
        return result

    def generate(self, *sequence_ids: int, num_steps: int) -> list[tuple[SampledToken, ...]]:
        """Compute all that the sequences have in one batch, then a token for each in every further step."""
        return [self.step(*(self.chunk(sequence_id) for sequence_id in sequence_ids)).sampled for _ in range(num_steps)]

    def output(self, sequence_id: int, prompt: Sequence[int]) -> list[int]:
        """What was sampled for a sequence so far."""
        return self.tokens[sequence_id][len(prompt) :]
