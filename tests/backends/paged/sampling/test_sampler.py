"""What is sampled, against a plain reference; and that a row's outcome is its own, whoever is beside it."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.paged.sampling.conftest import EOS, PROMPT, MakeSampler, start_all
from pagemill.backends.paged.sampling import Sampler, filters, sampler
from pagemill.engine.step import SampledToken, SequenceStart
from pagemill.generation import SamplingParams
from support.sampling_kinds import KINDS
from support.sampling_reference import adjusted_logits, probabilities

NUM_DRAWS = 150
GREEDY = SamplingParams(temperature=0.0)


class Stratified:
    """In place of a random generator: its seed's place among NUM_DRAWS, so that a batch covers [0, 1) evenly."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def random(self) -> float:
        return (self._seed + 0.5) / NUM_DRAWS


def random_logits(rng: np.random.Generator, vocab_size: int) -> torch.Tensor:
    logits = torch.from_numpy(rng.normal(scale=rng.uniform(0.3, 5.0), size=vocab_size)).float()
    tied = rng.random() < 0.3  # as of a model in bfloat16
    return (logits * 4).round() / 4 if tied else logits


def random_sampling(rng: np.random.Generator, vocab_size: int, **fixed: Any) -> SamplingParams:
    """Each parameter on or off."""
    several = [int(token_id) for token_id in rng.choice(vocab_size, 8, replace=False)]
    choices: dict[str, Any] = {
        "temperature": rng.uniform(0.2, 3.0),
        "top_k": int(rng.integers(1, vocab_size + 2)),
        "top_p": rng.uniform(0.05, 0.99),
        "min_p": rng.uniform(0.001, 0.6),
        "typical_p": rng.uniform(0.05, 0.99),
        "repetition_penalty": rng.uniform(0.5, 3.0),
        "presence_penalty": rng.uniform(-2.0, 2.0),
        "frequency_penalty": rng.uniform(-2.0, 2.0),
        "penalty_last_n": int(rng.integers(0, 9)),
        "logit_bias": tuple((token_id, rng.uniform(-8.0, 8.0)) for token_id in several[:3]),
        "allowed_token_ids": tuple(several),
        "min_tokens": int(rng.integers(1, 4)),
        "stop_token_ids": (several[0],),
        "ignore_eos": True,
    }
    chosen = {name: value for name, value in choices.items() if rng.random() < 0.35}
    if "allowed_token_ids" in chosen:
        chosen["allowed_token_ids"] = (*several, 4, 6)  # so that something is left whatever is banned
    return SamplingParams(**{**chosen, **fixed})


@pytest.mark.parametrize("first_candidates", [3, 10**6])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), vocab_size=st.sampled_from([12, 259, 1500]))
def test_every_token_is_sampled_as_often_as_the_reference_says(
    first_candidates: int, seed: int, vocab_size: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = random_logits(rng, vocab_size)
    sampling = random_sampling(rng, vocab_size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "Random", Stratified)
        patch.setattr(filters, "FIRST_CANDIDATES", first_candidates)
        tested = Sampler(vocab_size, EOS, torch.device("cpu"), NUM_DRAWS)
        start_all(tested, [replace(sampling, seed=index) for index in range(NUM_DRAWS)])
        drawn = tested.sample(logits.repeat(NUM_DRAWS, 1), range(NUM_DRAWS)).token_ids.bincount(minlength=vocab_size)
    expected = probabilities(adjusted_logits(logits.tolist(), PROMPT, (), sampling, EOS), sampling)
    assert drawn[expected == 0].sum() == 0
    # What one uniform number means is an interval for each token, so a count is never off by more than one.
    assert np.abs(drawn.numpy() - NUM_DRAWS * expected).max() <= 1.02


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_was_said_counts_in_later_steps_as_the_reference_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vocab_size, num_steps = 12, 14
    samplings = [random_sampling(rng, vocab_size, temperature=float(i % 2), seed=i) for i in range(6)]
    tested = Sampler(vocab_size, EOS, torch.device("cpu"), 2)
    start_all(tested, samplings)
    outputs: list[list[int]] = [[] for _ in samplings]
    for step in range(num_steps):
        rows = [row for row in rng.permutation(len(samplings)).tolist() if rng.random() < 0.8 or step == 0]
        if not rows:
            continue
        logits = torch.stack([random_logits(rng, vocab_size) for _ in rows])
        raw = logits.tolist()
        for row, values, sampled in zip(rows, raw, tested.sample(logits, rows).collect(), strict=True):
            assert sampled.sequence_id == row
            adjusted = adjusted_logits(values, PROMPT, outputs[row], samplings[row], EOS)
            if samplings[row].greedy:
                assert adjusted[sampled.token_id] == pytest.approx(adjusted.max(), abs=1e-4)
            assert probabilities(adjusted, replace(samplings[row], temperature=1.0))[sampled.token_id] > 0 or (
                samplings[row].temperature == 0.0
            )
            outputs[row].append(sampled.token_id)


def outcomes(vocab_size: int, rows_of: list[list[int]]) -> dict[int, list[SampledToken]]:
    """What sequences of all kinds get when step i is run with the rows that `rows_of[i]` names, in that order. The
    logits of a sequence's j-th token depend on the two alone.
    """
    tested = Sampler(vocab_size, EOS, torch.device("cpu"), 4)
    start_all(tested, KINDS)
    result: dict[int, list[SampledToken]] = {kind: [] for kind in range(len(KINDS))}
    for rows in rows_of:
        generators = [torch.Generator().manual_seed(1000 * row + len(result[row])) for row in rows]
        logits = torch.stack([3 * torch.randn(vocab_size, generator=generator) for generator in generators])
        for sampled in tested.sample(logits, rows).collect():
            result[sampled.sequence_id].append(sampled)
    return result


@pytest.mark.parametrize("vocab_size", [64, 8192, 50_257])
def test_a_row_is_the_same_to_the_last_bit_in_any_company(vocab_size: int) -> None:
    everyone = list(range(len(KINDS)))
    together = outcomes(vocab_size, [everyone] * 4)
    backwards = outcomes(vocab_size, [everyone[::-1]] * 4)
    alone = outcomes(vocab_size, [[kind] for kind in everyone for _ in range(4)])
    mixed = outcomes(vocab_size, [everyone[::2], everyone[1::2], everyone[3:], everyone[:3]] * 2 + [everyone] * 2)
    assert together == backwards == alone
    assert {kind: sampled[:4] for kind, sampled in mixed.items()} == together
    assert all(len(sampled) == 4 for sampled in together.values())


@pytest.mark.parametrize(
    "sampling", [{}, {"top_k": 20}, {"top_p": 0.9}, {"typical_p": 0.9}, {"min_p": 0.02}, {"temperature": 1.7}]
)
def test_draws_of_seeded_sequences_follow_the_distribution(make_sampler: MakeSampler, sampling: dict[str, Any]) -> None:
    vocab_size, num_steps, num_rows = 2048, 50, 64
    num_draws = num_steps * num_rows
    generator = torch.Generator().manual_seed(5)
    logits = 3 * torch.randn(vocab_size, generator=generator)
    params = SamplingParams(**sampling)
    tested = make_sampler(vocab_size, *(replace(params, seed=77 + row) for row in range(num_rows)))
    drawn: Counter[int] = Counter()
    for _ in range(num_steps):
        drawn.update(item.token_id for item in tested.sample(logits.repeat(num_rows, 1), range(num_rows)).collect())
    expected = num_draws * probabilities(logits.double().numpy(), params)
    often = [token_id for token_id in np.argsort(-expected) if expected[token_id] >= 20]
    rest = num_draws - sum(expected[token_id] for token_id in often)
    statistic = sum((drawn[token_id] - expected[token_id]) ** 2 / expected[token_id] for token_id in often)
    if rest > 5:
        statistic += (num_draws - sum(drawn[token_id] for token_id in often) - rest) ** 2 / rest
    assert len(often) >= 10
    # Chi-square: mean n, deviation sqrt(2 n); the seed makes it repeatable.
    assert statistic < len(often) + 4 * (2 * len(often)) ** 0.5


def test_seeds_differ_by_sign_too_and_no_seed_is_random(make_sampler: MakeSampler) -> None:
    seeds = (0, 5, -5, 2**63 - 1, -(2**63), None, None)
    tested = make_sampler(8192, *(SamplingParams(seed=seed) for seed in seeds))
    steps = [[item.token_id for item in tested.sample(torch.zeros(7, 8192), range(7)).collect()] for _ in range(4)]
    assert len(set(zip(*steps, strict=True))) == 7


def test_all_greedy_rows_cost_one_argmax_and_no_copy(
    make_sampler: MakeSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pagemill.backends.paged.sampling import layout

    seen: list[tuple[int, int]] = []

    def count(rows: torch.Tensor) -> torch.Tensor:
        seen.append((rows.data_ptr(), len(rows)))
        return rows.argmax(-1)

    monkeypatch.setattr(layout, "argmax", count)
    logits = torch.randn(64, 50_257)
    tested = make_sampler(50_257, *[GREEDY] * 64)
    expected = logits.argmax(-1).tolist()
    assert [item.token_id for item in tested.sample(logits, range(64)).collect()] == expected
    assert seen == [(logits.data_ptr(), 64)]


def test_an_ended_sequence_leaves_nothing_behind_and_others_go_on(make_sampler: MakeSampler) -> None:
    penalized = SamplingParams(temperature=0.0, repetition_penalty=100.0)
    tested = make_sampler(16, *[penalized] * 9, max_num_seqs=2)
    logits = torch.arange(1.0, 17.0).repeat(9, 1)
    for step in range(3):
        assert [item.token_id for item in tested.sample(logits.clone(), range(9)).collect()] == [15 - step] * 9
    for sequence_id in range(8):
        tested.end(sequence_id)
    tested.start(SequenceStart(9, (15, 14), penalized))
    both = tested.sample(logits[:2].clone(), [9, 8]).collect()
    assert [(item.sequence_id, item.token_id) for item in both] == [(9, 13), (8, 12)]
    with pytest.raises(KeyError):
        tested.sample(logits[:1], [0])


def test_the_end_is_held_back_until_min_tokens_of_each_row(make_sampler: MakeSampler) -> None:
    samplings = [SamplingParams(temperature=0.0, min_tokens=n, stop_token_ids=(9,)) for n in (0, 1, 3)]
    tested = make_sampler(16, *samplings)
    logits = torch.zeros(3, 16)
    logits[:, 9], logits[:, 1], logits[:, 4] = 3.0, 2.0, 1.0
    steps = [[item.token_id for item in tested.sample(logits.clone(), range(3)).collect()] for _ in range(5)]
    assert [list(row) for row in zip(*steps, strict=True)] == [[9] * 5, [4, 9, 9, 9, 9], [4, 4, 4, 9, 9]]
