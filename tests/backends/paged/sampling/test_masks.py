"""Masks of allowed tokens, on some rows of a batch or on all."""

from random import Random

import pytest
import torch

from backends.paged.sampling.conftest import MakeSampler
from pagemill.backends.paged.sampling.masks import keep_only
from pagemill.generation import SamplingParams

VOCAB_SIZE = 1003  # not a multiple of 8, let alone of 32


def packed(token_ids: set[int]) -> bytes:
    mask = bytearray(-(-VOCAB_SIZE // 32) * 4)
    for token_id in token_ids:
        mask[token_id >> 3] |= 1 << (token_id & 7)
    return bytes(mask)


@pytest.mark.parametrize("masked_rows", [set(), {1}, {0, 3}, {0, 1, 2, 3}])
def test_only_the_tokens_of_a_rows_mask_are_left(masked_rows: set[int]) -> None:
    random = Random(len(masked_rows))
    allowed = [set(random.sample(range(VOCAB_SIZE), 40)) | {0, VOCAB_SIZE - 1} for _ in range(4)]
    logits = torch.randn(4, VOCAB_SIZE)
    before = logits.clone()
    keep_only(logits, [packed(tokens) if row in masked_rows else None for row, tokens in enumerate(allowed)])
    for row in range(4):
        kept = allowed[row] if row in masked_rows else set(range(VOCAB_SIZE))
        assert set((logits[row] > -torch.inf).nonzero().flatten().tolist()) == kept
        index = sorted(kept)
        assert torch.equal(logits[row, index], before[row, index])


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=0.0),
        SamplingParams(temperature=2.0, seed=1),
        SamplingParams(top_k=900, top_p=0.99, seed=1),
        SamplingParams(typical_p=0.5, seed=1),
        SamplingParams(repetition_penalty=2.0, presence_penalty=1.0, seed=1),
        SamplingParams(logit_bias=((7, 100.0),), min_tokens=3, seed=1),
    ],
    ids=str,
)
def test_every_way_of_choosing_keeps_to_the_mask(make_sampler: MakeSampler, sampling: SamplingParams) -> None:
    tested = make_sampler(VOCAB_SIZE, *[sampling] * 3)
    allowed = {5, 600, 1002}
    for step in range(4):
        logits = torch.randn(3, VOCAB_SIZE, generator=torch.Generator().manual_seed(step))
        sampled = tested.sample(logits, range(3), [packed(allowed), None, packed({9})]).collect()
        assert sampled[0].token_id in allowed
        assert sampled[2].token_id == 9
