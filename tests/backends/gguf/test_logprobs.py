"""Logprobs against a plain softmax of llama.cpp's logits."""

from collections.abc import Callable

import numpy as np
import pytest

from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.backends.gguf.logprobs import token_logprobs
from pagemill.engine.step import PromptLogprobs
from pagemill.generation import SamplingParams, TokenLogprob
from support.llama_oracle import LlamaOracle, log_softmax
from support.step_driver import StepDriver

LoadBackend = Callable[..., GGUFBackend]
PROMPT = [116, 104, 101, 32, 99, 97, 116, 0, 255, 12, 13, 14]


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=0.0, logprobs=5),
        SamplingParams(temperature=0.7, seed=3, logprobs=5, repetition_penalty=1.5, top_k=20),
        SamplingParams(temperature=2.0, seed=3, logprobs=5, logit_bias=((65, 20.0),), min_tokens=20),
    ],
)
def test_logprobs_are_of_the_models_own_distribution(
    driver: StepDriver, oracle: LlamaOracle, sampling: SamplingParams
) -> None:
    driver.start(0, PROMPT, sampling)
    steps = driver.generate(0, num_steps=15)
    expected = log_softmax(oracle.logits(driver.tokens[0]))[len(PROMPT) - 1 :]
    for (sampled,), row in zip(steps, expected, strict=False):
        assert sampled.logprobs is not None
        assert sampled.logprobs.token_id == sampled.token_id
        assert sampled.logprobs.logprob == pytest.approx(row[sampled.token_id], abs=0.01)
        assert [entry.token_id for entry in sampled.logprobs.top] == np.argsort(-row)[:5].tolist()
        for entry in sampled.logprobs.top:
            assert entry.logprob == pytest.approx(row[entry.token_id], abs=0.01)


def test_zero_logprobs_still_give_the_tokens_own(driver: StepDriver) -> None:
    driver.start(0, PROMPT, SamplingParams(temperature=0.0, logprobs=0))
    (sampled,) = driver.step(driver.chunk(0)).sampled
    assert sampled.logprobs is not None
    assert (sampled.logprobs.token_id, sampled.logprobs.top) == (sampled.token_id, ())


def test_none_are_given_unless_asked_for(driver: StepDriver) -> None:
    driver.start(0, PROMPT)
    result = driver.step(driver.chunk(0))
    assert result.sampled[0].logprobs is None
    assert result.prompt_logprobs == ()


@pytest.mark.parametrize("length", [12, 100, 200])
def test_prompt_logprobs_cover_every_position(driver: StepDriver, oracle: LlamaOracle, length: int) -> None:
    prompt = [(index * 37) % 256 for index in range(length)]  # 200 need seven decodes of 32 outputs
    driver.start(0, PROMPT)
    driver.start(1, prompt, SamplingParams(temperature=0.0, prompt_logprobs=3))
    result = driver.step(driver.chunk(1, prompt_logprobs=True), driver.chunk(0))
    check_prompt(result.prompt_logprobs, oracle, prompt)
    driver.generate(0, 1, num_steps=3)
    assert driver.output(1, prompt) == oracle.greedy(prompt, 4)
    assert driver.output(0, PROMPT) == oracle.greedy(PROMPT, 4)


def test_prompt_logprobs_come_chunk_by_chunk(driver: StepDriver, oracle: LlamaOracle) -> None:
    prompt = [(index * 37) % 256 for index in range(90)]
    driver.start(2, prompt, SamplingParams(temperature=0.0, prompt_logprobs=3))
    found: list[PromptLogprobs] = []
    for size in (40, 1, 48, 1):
        found.extend(driver.step(driver.chunk(2, size, prompt_logprobs=True)).prompt_logprobs)
    assert [part.start for part in found] == [0, 40, 41, 89]
    check_prompt(tuple(found), oracle, prompt)


def check_prompt(parts: tuple[PromptLogprobs, ...], oracle: LlamaOracle, prompt: list[int]) -> None:
    entries = [entry for part in parts for entry in part.entries]
    assert len(entries) == len(prompt) - 1
    for token_id, entry, row in zip(prompt[1:], entries, log_softmax(oracle.logits(prompt)), strict=False):
        assert entry.token_id == token_id
        assert entry.logprob == pytest.approx(row[token_id], rel=0.01, abs=0.06)  # f16 KV, other chunks
        assert entry.top[0].token_id == int(np.argmax(row))
        assert len(entry.top) == 3


def test_equal_logprobs_are_in_order_of_token_id() -> None:
    logprobs = np.array([-3.0, -1.0, -2.0, -1.0, -2.0, -2.0])
    assert token_logprobs(logprobs, 0, 4).top == (
        TokenLogprob(1, -1.0),
        TokenLogprob(3, -1.0),
        TokenLogprob(2, -2.0),
        TokenLogprob(4, -2.0),
    )
    assert len(token_logprobs(logprobs, 0, 99).top) == 6
