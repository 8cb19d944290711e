"""Token counts of one HTTP request: each prompt once, the outputs of all choices together.

A `UsageTally` owns the latest `Usage` of each choice.
"""

from collections.abc import Sequence
from typing import Any

from pagemill.generation import Usage


class UsageTally:
    """`prompt_lengths` in tokens. Choice numbers are in prompt x n order."""

    def __init__(self, prompt_lengths: Sequence[int], n: int) -> None:
        self._num_prompt_tokens = sum(prompt_lengths)
        self._n = n
        self._latest: list[Usage | None] = [None] * (len(prompt_lengths) * n)
        self._num_reasoning_tokens = [0] * (len(prompt_lengths) * n)

    def update(self, number: int, usage: Usage, num_reasoning_tokens: int = 0) -> None:
        """Take in the counts of choice `number` so far."""
        self._latest[number] = usage
        self._num_reasoning_tokens[number] = num_reasoning_tokens

    def total(self) -> dict[str, Any]:
        """The `usage` object of the counts so far. What was cached of a prompt is what its first choice found: the
        others share the KV that the first one computed.
        """
        completion = sum(usage.completion_tokens for usage in self._latest if usage is not None)
        cached = sum(usage.cached_tokens for usage in self._latest[:: self._n] if usage is not None)
        return {
            "prompt_tokens": self._num_prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self._num_prompt_tokens + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": sum(self._num_reasoning_tokens)},
        }
