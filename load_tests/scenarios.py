"""What the clients ask for: seeded lists of prompts (token ids) and output lengths.

Owns no state. The same scenario, count and seed give the same list, so that every server gets the same work; another
seed gives prompts that share nothing with it, so that no repeat finds its prompts in a cache.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

CONTEXT_STEP = 256  # llama.cpp rounds a slot's context up to a multiple of this


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One prompt, and how many tokens to generate: exactly so many, since end-of-sequence is ignored."""

    prompt_token_ids: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """Lengths in tokens, both ends included.

    `warm_prefix`: the warm-up requests carry the shared prefix too. `rounds`: requests per client, at least.
    """

    name: str
    description: str
    own_tokens: tuple[int, int]
    output_tokens: tuple[int, int]
    shared_tokens: int = 0
    warm_prefix: bool = False
    rounds: int = 4

    @property
    def max_model_len(self) -> int:
        """The least context that holds every request, as llama.cpp rounds it."""
        longest = self.shared_tokens + self.own_tokens[1] + self.output_tokens[1]
        return -(-longest // CONTEXT_STEP) * CONTEXT_STEP

    def num_requests(self, num_clients: int) -> int:
        """Of one run, by default: few clients send more, so that the run is long enough to measure."""
        least = 12 + 3 * num_clients if self.rounds > 1 else 0
        return max(least, self.rounds * num_clients)

    def plan(self, num_requests: int, token_ids: Sequence[int], seed: int) -> list[PlannedRequest]:
        """The requests of a run. Their lengths are spread evenly over the ranges, so every seed asks for equal work."""
        prefix = self._prefix(token_ids, seed)
        return self._requests(num_requests, prefix, token_ids, random.Random(f"{self.name} run {seed}"))

    def warm_up(self, num_requests: int, token_ids: Sequence[int], seed: int) -> list[PlannedRequest]:
        """Requests to send before `plan` of the same seed; of its prompts they share the prefix if that is warm."""
        generator = random.Random(f"{self.name} warm-up {seed}")
        prefix = self._prefix(token_ids, seed) if self.warm_prefix else ()
        return self._requests(num_requests, prefix, token_ids, generator)

    def _prefix(self, token_ids: Sequence[int], seed: int) -> tuple[int, ...]:
        return tuple(random.Random(f"{self.name} prefix {seed}").choices(token_ids, k=self.shared_tokens))

    def _requests(
        self, count: int, prefix: tuple[int, ...], token_ids: Sequence[int], generator: random.Random
    ) -> list[PlannedRequest]:
        own, output = _spaced(self.own_tokens, count), _spaced(self.output_tokens, count)
        generator.shuffle(own)
        generator.shuffle(output)
        return [
            PlannedRequest(prefix + tuple(generator.choices(token_ids, k=length)), max_tokens)
            for length, max_tokens in zip(own, output, strict=True)
        ]


def _spaced(bounds: tuple[int, int], count: int) -> list[int]:
    low, high = bounds
    if count == 1:
        return [(low + high) // 2]
    return [low + round((high - low) * index / (count - 1)) for index in range(count)]


def scenarios() -> dict[str, Scenario]:
    """All scenarios by name."""
    shared = "512 shared and 16-64 own tokens, 32 out; prefix"
    lengths = ((16, 64), (32, 32), 512)
    all_scenarios = (
        Scenario("fixed", "unique prompts of 128 tokens, 64 out", (128, 128), (64, 64)),
        Scenario("mixed", "unique prompts of 32-512 tokens, 16-128 out", (32, 512), (16, 128)),
        Scenario("decode", "unique prompts of 16 tokens, 128 out", (16, 16), (128, 128)),
        Scenario("shared_prefix", f"{shared}, new to the server", *lengths),
        Scenario("shared_prefix_cold", f"{shared}, new to the server, all clients start at once", *lengths, rounds=1),
        Scenario("shared_prefix_warm", f"{shared}, in the server's cache", *lengths, warm_prefix=True),
    )
    return {scenario.name: scenario for scenario in all_scenarios}
