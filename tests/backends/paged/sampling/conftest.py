"""Helpers for the sampler's tests: a fresh sampler, and sequences started on it."""

from collections.abc import Callable, Sequence

import pytest
import torch

from pagemill.backends.paged.sampling import Sampler
from pagemill.engine.step import SequenceStart
from pagemill.generation import SamplingParams

EOS = frozenset({1, 2})
PROMPT = (5, 3, 5, 7, 5)

MakeSampler = Callable[..., Sampler]


def start_all(sampler: Sampler, samplings: Sequence[SamplingParams], prompt: Sequence[int] = PROMPT) -> None:
    """Start a sequence for each; its id is its place in the list."""
    for sequence_id, sampling in enumerate(samplings):
        sampler.start(SequenceStart(sequence_id, tuple(prompt), sampling))


@pytest.fixture
def make_sampler() -> MakeSampler:
    def make(vocab_size: int, *samplings: SamplingParams, max_num_seqs: int = 4) -> Sampler:
        sampler = Sampler(vocab_size, EOS, torch.device("cpu"), max_num_seqs)
        start_all(sampler, samplings)
        return sampler

    return make
