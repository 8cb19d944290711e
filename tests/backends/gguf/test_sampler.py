"""Sampling: seeds, each parameter's effect on the distribution, and that company in the batch changes nothing."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pagemill.backends.gguf import sampler
from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.backends.gguf.sampler import RANDOM_SEED, SEED_MULTIPLIER, fold_seed
from pagemill.engine.step import TruncateKV
from pagemill.generation import SamplingParams
from support.llama_oracle import LlamaOracle, log_softmax
from support.step_driver import GREEDY, StepDriver
from support.tiny_gguf import TinyModel

LoadBackend = Callable[..., GGUFBackend]
PROMPT = [116, 104, 101, 32, 99, 116, 104]
NUM_DRAWS = 600


@pytest.fixture(scope="module")
def flat_model(write_model: Callable[[TinyModel], Path]) -> Path:
    """A model whose distributions are broad, so that sampling has something to choose from."""
    return write_model(TinyModel(output_scale=0.2))


@pytest.fixture(scope="module")
def flat_oracle(flat_model: Path) -> Iterator[LlamaOracle]:
    oracle = LlamaOracle(flat_model)
    yield oracle
    oracle.close()


@pytest.fixture
def flat_driver(load_backend: LoadBackend, flat_model: Path) -> StepDriver:
    return StepDriver(load_backend(flat_model))


def run(driver: StepDriver, slot: int, num_tokens: int = 20, **sampling: Any) -> list[int]:
    """The output of one sequence that runs alone in a slot."""
    driver.start(slot, PROMPT, SamplingParams(**sampling))
    driver.step(driver.chunk(slot), operations=[TruncateKV(slot, 0)], ended=[slot])
    driver.generate(slot, num_steps=num_tokens - 1)
    return driver.output(slot, PROMPT)


def draw(driver: StepDriver, sampling: SamplingParams) -> Counter[int]:
    """How often each token is the first one, over many seeds."""
    drawn: Counter[int] = Counter()
    for seed in range(NUM_DRAWS):
        drawn.update(run(driver, 0, 1, **_fields(replace(sampling, seed=seed))))
    return drawn


def _fields(sampling: SamplingParams) -> dict[str, Any]:
    return {name: getattr(sampling, name) for name in SamplingParams.__dataclass_fields__}


def next_probabilities(oracle: LlamaOracle, temperature: float = 1.0) -> NDArray[np.float64]:
    return np.exp(log_softmax(oracle.logits(PROMPT)[-1] / np.float32(temperature)))


@pytest.mark.parametrize("max_candidates", [0, 2**15])
def test_greedy_is_the_same_in_c_and_in_numpy(
    flat_driver: StepDriver, flat_oracle: LlamaOracle, max_candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "MAX_CANDIDATES", max_candidates)
    assert run(flat_driver, 0, temperature=0.0) == flat_oracle.greedy(PROMPT, 20)


def test_a_seed_gives_the_same_tokens_in_any_company(flat_driver: StepDriver) -> None:
    alone = run(flat_driver, 0, seed=7)
    flat_driver.step(ended=[0])
    for slot in (0, 1, 2, 3):
        flat_driver.start(slot, PROMPT, SamplingParams(seed={2: 7}.get(slot, 100 + slot)))
    for slot in (3, 1, 0):
        flat_driver.step(flat_driver.chunk(slot), operations=[TruncateKV(slot, 0)])
    flat_driver.step(flat_driver.chunk(2), flat_driver.chunk(0))
    flat_driver.generate(0, 1, 2, 3, num_steps=19)
    assert flat_driver.output(2, PROMPT) == alone
    assert flat_driver.output(0, PROMPT)[:20] != alone


def test_seeds_differ_and_no_seed_is_random(flat_driver: StepDriver) -> None:
    outputs = {tuple(run(flat_driver, 0, seed=seed)) for seed in (0, 1, -1, 2**32, 2**63 - 1, None, None)}
    assert len(outputs) == 7


def test_folded_seeds_are_never_the_one_that_means_random() -> None:
    means_random = (RANDOM_SEED << 32) * pow(SEED_MULTIPLIER, -1, 2**64) % 2**64  # what would fold to it
    assert means_random * SEED_MULTIPLIER % 2**64 >> 32 == RANDOM_SEED
    assert fold_seed(means_random) == RANDOM_SEED - 1
    assert fold_seed(None) == RANDOM_SEED


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_tokens_are_drawn_from_the_tempered_distribution(
    flat_driver: StepDriver, flat_oracle: LlamaOracle, temperature: float
) -> None:
    drawn = draw(flat_driver, SamplingParams(temperature=temperature))
    probabilities = next_probabilities(flat_oracle, temperature)
    for token_id in np.argsort(-probabilities)[:8]:
        expected = probabilities[token_id]
        deviation = np.sqrt(expected * (1 - expected) / NUM_DRAWS)
        assert drawn[int(token_id)] / NUM_DRAWS == pytest.approx(expected, abs=4.5 * deviation)


def test_top_k_leaves_the_k_most_likely(flat_driver: StepDriver, flat_oracle: LlamaOracle) -> None:
    best = np.argsort(-next_probabilities(flat_oracle))[:3]
    assert set(draw(flat_driver, SamplingParams(top_k=3))) == set(best.tolist())


def test_top_p_leaves_the_nucleus(flat_driver: StepDriver, flat_oracle: LlamaOracle) -> None:
    probabilities = next_probabilities(flat_oracle)
    order = np.argsort(-probabilities)
    size = int(np.searchsorted(np.cumsum(probabilities[order]), 0.4)) + 1
    assert 1 < size < 30
    drawn = draw(flat_driver, SamplingParams(top_p=0.4))
    assert set(drawn) <= set(order[:size].tolist())
    assert len(drawn) > size // 2


def test_min_p_leaves_what_is_near_the_best(flat_driver: StepDriver, flat_oracle: LlamaOracle) -> None:
    probabilities = next_probabilities(flat_oracle)
    near = set(np.flatnonzero(probabilities >= 0.3 * probabilities.max()).tolist())
    drawn = draw(flat_driver, SamplingParams(min_p=0.3))
    assert set(drawn) <= near
    assert len(drawn) > 1


def test_typical_p_leaves_the_typical(flat_driver: StepDriver, flat_oracle: LlamaOracle) -> None:
    probabilities = next_probabilities(flat_oracle)
    surprise = -np.log(probabilities)
    entropy = float((probabilities * surprise).sum())
    order = np.argsort(np.abs(surprise - entropy))
    size = int(np.searchsorted(np.cumsum(probabilities[order]), 0.3)) + 1
    drawn = draw(flat_driver, SamplingParams(typical_p=0.3))
    assert set(drawn) <= set(order[: size + 1].tolist())
    assert len(drawn) > 1


def test_a_bias_forces_and_bans_tokens(flat_driver: StepDriver, flat_oracle: LlamaOracle) -> None:
    assert run(flat_driver, 0, 5, seed=1, logit_bias=((65, 100.0),)) == [65] * 5
    assert run(flat_driver, 0, 5, temperature=0.0, logit_bias=((65, 100.0),)) == [65] * 5
    first, second = np.argsort(-next_probabilities(flat_oracle))[:2].tolist()
    assert run(flat_driver, 0, 1, temperature=0.0, logit_bias=((first, -100.0),)) == [second]


@pytest.mark.parametrize(
    "penalties",
    [
        {"repetition_penalty": 1.8},
        {"repetition_penalty": 0.7},
        {"presence_penalty": 1.5},
        {"frequency_penalty": 0.8},
        {"frequency_penalty": -1.0},
        {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.4},
        {"repetition_penalty": 1.8, "frequency_penalty": 0.8, "penalty_last_n": 4},
        {"repetition_penalty": 1.8, "presence_penalty": 2.0, "penalty_last_n": 0},
        {"presence_penalty": 2.0, "penalty_last_n": 1000},
    ],
)
def test_penalties_equal_the_plain_formula(
    flat_driver: StepDriver, flat_oracle: LlamaOracle, penalties: dict[str, float]
) -> None:
    sampling = SamplingParams(temperature=0.0, **penalties)  # type: ignore[arg-type]
    tokens = list(PROMPT)
    for _ in range(20):
        tokens.append(int(np.argmax(penalized(flat_oracle.logits(tokens)[-1], tokens, sampling))))
    output = run(flat_driver, 0, **_fields(sampling))
    assert output == tokens[len(PROMPT) :]


def penalized(logits: NDArray[np.float32], tokens: list[int], sampling: SamplingParams) -> NDArray[np.float64]:
    """vLLM's definition, token by token."""
    last_n = len(tokens) if sampling.penalty_last_n is None else sampling.penalty_last_n
    begin = max(0, len(tokens) - last_n)
    window, output = Counter(tokens[begin:]), Counter(tokens[max(begin, len(PROMPT)) :])
    result = logits.astype(np.float64)
    for token_id in window:
        factor = sampling.repetition_penalty
        result[token_id] = result[token_id] / factor if result[token_id] > 0 else result[token_id] * factor
    for token_id, count in output.items():
        result[token_id] -= sampling.frequency_penalty * count + sampling.presence_penalty
    return result


def test_penalties_apply_to_draws_too(flat_driver: StepDriver) -> None:
    output = run(flat_driver, 0, 60, seed=3, presence_penalty=2.0, frequency_penalty=2.0, logit_bias=((65, 5.0),))
    plain = run(flat_driver, 0, 60, seed=3, logit_bias=((65, 5.0),))
    assert output.count(65) < plain.count(65)


def test_nothing_stops_before_min_tokens(flat_driver: StepDriver) -> None:
    ends = flat_driver.backend.tokenizer.eos_token_ids
    bias = ((9, 50.0), *((token_id, 90.0) for token_id in sorted(ends)))
    output = run(flat_driver, 0, 8, min_tokens=5, seed=1, logit_bias=bias, stop_token_ids=(9,))
    assert not set(output[:5]) & {9, *ends}
    assert set(output[5:]) <= ends


def test_an_ignored_end_of_sequence_is_not_banned(flat_driver: StepDriver) -> None:
    end = max(flat_driver.backend.tokenizer.eos_token_ids)
    output = run(flat_driver, 0, 3, min_tokens=3, ignore_eos=True, temperature=0.0, logit_bias=((end, 100.0),))
    assert output == [end] * 3


@pytest.mark.parametrize("sampling", [{"seed": 5}, {"temperature": 0.0, "frequency_penalty": 1.0, "min_tokens": 15}])
def test_a_preempted_sequence_goes_on_as_if_it_had_not_been(flat_driver: StepDriver, sampling: dict[str, Any]) -> None:
    uninterrupted = run(flat_driver, 0, 30, **sampling)
    flat_driver.start(1, PROMPT, SamplingParams(**sampling))
    flat_driver.generate(1, num_steps=12)
    flat_driver.num_computed[1] = 0
    flat_driver.step(flat_driver.chunk(1), operations=[TruncateKV(1, 0)])
    flat_driver.generate(1, num_steps=17)
    assert flat_driver.output(1, PROMPT) == uninterrupted


def test_sampling_of_one_sequence_leaves_others_alone(flat_driver: StepDriver, flat_oracle: LlamaOracle) -> None:
    flat_driver.start(0, PROMPT, SamplingParams(seed=1, repetition_penalty=2.0, logit_bias=((65, 100.0),)))
    flat_driver.start(1, PROMPT, GREEDY)
    flat_driver.generate(0, 1, num_steps=10)
    assert flat_driver.output(1, PROMPT) == flat_oracle.greedy(PROMPT, 10)
