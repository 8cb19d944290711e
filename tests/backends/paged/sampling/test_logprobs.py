"""Logprobs are of the raw distribution, in bounded chunks, and each row's own."""

import pytest
import torch

from backends.paged.sampling.conftest import MakeSampler
from pagemill.backends.paged.sampling import logprobs, prompt_logprobs
from pagemill.generation import SamplingParams, TokenLogprobs
from support.sampling_reference import log_softmax


def check(entry: TokenLogprobs, logits: torch.Tensor, count: int) -> None:
    """An entry against float64 over the whole row."""
    expected = log_softmax(logits.tolist())
    assert entry.logprob == pytest.approx(expected[entry.token_id], abs=1e-6)
    assert entry.logprob <= 0
    order = sorted(range(len(expected)), key=lambda token_id: (-float(logits[token_id]), token_id))[:count]
    assert [item.token_id for item in entry.top] == order
    assert [item.logprob for item in entry.top] == pytest.approx([expected[token_id] for token_id in order], abs=1e-6)


def test_sampled_tokens_have_raw_logprobs_whatever_was_done_to_their_logits(make_sampler: MakeSampler) -> None:
    samplings = [
        SamplingParams(temperature=0.0, logprobs=3, repetition_penalty=3.0),
        SamplingParams(seed=1, logprobs=0, allowed_token_ids=(40,), logit_bias=((40, 50.0),)),
        SamplingParams(seed=2),
        SamplingParams(seed=3, logprobs=259, top_k=2, temperature=0.2),
        SamplingParams(seed=4, logprobs=1000, min_p=0.5),
    ]
    tested = make_sampler(259, *samplings)
    for step in range(3):
        logits = 4 * torch.randn(5, 259, generator=torch.Generator().manual_seed(step))
        sampled = tested.sample(logits.clone(), range(5)).collect()
        for row, sampling in enumerate(samplings):
            entry = sampled[row].logprobs
            assert (entry is None) is (sampling.logprobs is None)
            if entry is not None:
                assert entry.token_id == sampled[row].token_id
                check(entry, logits[row], min(sampling.logprobs or 0, 259))


@pytest.mark.parametrize("vocab_size", [64, 8192, 50_257])
@pytest.mark.parametrize("count", [0, 5])
def test_prompt_tokens_are_scored_in_chunks_as_one_by_one(
    vocab_size: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = 3 * torch.randn(70, vocab_size, generator=torch.Generator().manual_seed(1))
    token_ids = [(37 * row) % vocab_size for row in range(70)]
    monkeypatch.setattr(logprobs, "num_rows_at_once", lambda num_columns, device: 32)
    entries = prompt_logprobs(logits, token_ids, count)
    assert [entry.token_id for entry in entries] == token_ids
    for row in (0, 31, 32, 69):
        check(entries[row], logits[row], count)
        assert prompt_logprobs(logits[row : row + 1], token_ids[row : row + 1], count) == entries[row : row + 1]


def test_no_rows_have_no_logprobs() -> None:
    assert prompt_logprobs(torch.empty(0, 64), [], 5) == ()


def test_impossible_tokens_have_an_infinite_logprob_and_the_others_none() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 0.0]])
    (entry,) = prompt_logprobs(logits, [1], 3)
    assert entry.logprob == -torch.inf
    assert [item.token_id for item in entry.top] == [0, 2, 1]
