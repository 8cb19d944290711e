"""Steps of the gguf backend against llama.cpp's own one-sequence loop: whatever the batch, the tokens are the same."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.engine.step import CopyKV, KVOperation, SequenceChunk, TruncateKV
from pagemill.errors import BackendError
from pagemill.generation import SamplingParams
from support.llama_oracle import LlamaOracle, log_softmax
from support.step_driver import GREEDY, StepDriver
from support.tiny_gguf import TinyModel

LoadBackend = Callable[..., GGUFBackend]
WriteModel = Callable[[TinyModel], Path]


def prompt_of(length: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 256, length)]


def test_a_single_sequence_equals_the_plain_loop(driver: StepDriver, oracle: LlamaOracle) -> None:
    prompt = prompt_of(30)
    driver.start(0, prompt)
    driver.generate(0, num_steps=40)
    assert driver.output(0, prompt) == oracle.greedy(prompt, 40)


def test_sequences_in_one_batch_equal_the_plain_loop(driver: StepDriver, oracle: LlamaOracle) -> None:
    prompts = [prompt_of(length, seed=length) for length in (3, 50, 17, 80)]
    for slot, prompt in enumerate(prompts):
        driver.start(slot, prompt)
    driver.generate(0, 1, 2, 3, num_steps=30)
    for slot, prompt in enumerate(prompts):
        assert driver.output(slot, prompt) == oracle.greedy(prompt, 30)


@pytest.mark.parametrize("chunk_size", [1, 7, 33])
def test_a_prompt_in_chunks_equals_the_plain_loop(driver: StepDriver, oracle: LlamaOracle, chunk_size: int) -> None:
    prompt = prompt_of(100)
    driver.start(1, prompt)
    while driver.num_computed[1] + chunk_size < len(prompt):
        assert driver.step(driver.chunk(1, chunk_size)).sampled == ()
    driver.generate(1, num_steps=20)
    assert driver.output(1, prompt) == oracle.greedy(prompt, 20)


def test_prefills_and_decodes_share_a_step(driver: StepDriver, oracle: LlamaOracle) -> None:
    prompts = {0: prompt_of(40, 1), 2: prompt_of(90, 2), 3: prompt_of(25, 3)}
    for slot in (3, 0):
        driver.start(slot, prompts[slot])
    driver.generate(3, 0, num_steps=5)
    driver.start(2, prompts[2])
    for _ in range(3):
        driver.step(driver.chunk(2, 30), driver.chunk(3), driver.chunk(0))
    driver.generate(2, 3, 0, num_steps=5)
    for slot, prompt in prompts.items():
        output = driver.output(slot, prompt)
        assert output == oracle.greedy(prompt, len(output))


def test_results_come_in_the_order_of_the_chunks(driver: StepDriver) -> None:
    for slot in (3, 1, 2, 0):
        driver.start(slot, prompt_of(10 + slot))
    result = driver.step(driver.chunk(3), driver.chunk(1, 5), driver.chunk(2), driver.chunk(0))
    assert [sampled.sequence_id for sampled in result.sampled] == [3, 2, 0]


def test_sixty_four_sequences_run_at_once(load_backend: LoadBackend, oracle: LlamaOracle) -> None:
    driver = StepDriver(load_backend(max_num_seqs=64, max_num_batched_tokens=512))
    prompts = [prompt_of(8, seed) for seed in range(64)]
    for slot, prompt in enumerate(prompts):
        driver.start(slot, prompt)
    driver.generate(*range(64), num_steps=8)
    for slot, prompt in enumerate(prompts):
        assert driver.output(slot, prompt) == oracle.greedy(prompt, 8)


@pytest.mark.parametrize("architecture", ["qwen3", "gemma2", "mamba"])
@pytest.mark.parametrize("kv_unified", [False, True])
def test_other_architectures_equal_the_plain_loop(
    load_backend: LoadBackend, write_model: WriteModel, architecture: str, kv_unified: bool
) -> None:
    path = write_model(TinyModel(architecture=architecture))  # type: ignore[arg-type]
    oracle = LlamaOracle(path)
    driver = StepDriver(load_backend(path, kv_unified=kv_unified))
    prompts = [prompt_of(100, 5), prompt_of(9, 6)]  # longer than gemma2's window of 64
    for slot, prompt in enumerate(prompts):
        driver.start(slot, prompt)
    driver.generate(0, 1, num_steps=12)
    for slot, prompt in enumerate(prompts):
        assert driver.output(slot, prompt) == oracle.greedy(prompt, 12)
    oracle.close()


@pytest.mark.parametrize("kv_cache_dtype", ["auto", "f16", "q8_0", "q4_0"])
def test_every_kv_type_runs_and_stays_near_the_model(
    load_backend: LoadBackend, oracle: LlamaOracle, kv_cache_dtype: str
) -> None:
    driver = StepDriver(load_backend(kv_cache_dtype=kv_cache_dtype))
    prompt = prompt_of(60)
    driver.start(0, prompt, SamplingParams(temperature=0.0, logprobs=1))
    (first,), *_ = driver.generate(0, num_steps=4)
    assert first.logprobs is not None
    expected = log_softmax(oracle.logits(prompt)[-1])[first.token_id]
    tolerance = {"auto": 1e-3, "f16": 1e-3, "q8_0": 0.3, "q4_0": 1.5}[kv_cache_dtype]
    assert first.logprobs.logprob == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("flash_attn", ["auto", "on", "off"])
@pytest.mark.parametrize("kv_unified", [False, True])
def test_every_kv_layout_copies_a_prefix(
    load_backend: LoadBackend, oracle: LlamaOracle, flash_attn: str, kv_unified: bool
) -> None:
    driver = StepDriver(load_backend(flash_attn=flash_attn, kv_unified=kv_unified))
    shared = prompt_of(50)
    prompts = [shared + prompt_of(20, 1), shared + prompt_of(10, 2)]
    driver.start(0, prompts[0])
    driver.generate(0, num_steps=3)
    driver.start(3, prompts[1])
    driver.num_computed[3] = len(shared)
    driver.step(driver.chunk(0), driver.chunk(3), operations=[CopyKV(0, 3, len(shared))])
    driver.generate(0, 3, num_steps=10)
    for slot, prompt in zip((0, 3), prompts, strict=True):
        output = driver.output(slot, prompt)
        assert output == oracle.greedy(prompt, len(output))


def test_a_copied_prefix_gives_the_very_logits_of_a_computed_one(driver: StepDriver) -> None:
    sampling = SamplingParams(temperature=0.0, logprobs=5)
    shared, tail = prompt_of(64), prompt_of(16, 1)
    driver.start(0, shared + tail, sampling)
    driver.step(driver.chunk(0, len(shared)))
    (computed,) = driver.step(driver.chunk(0)).sampled
    driver.start(2, shared + tail, sampling)
    driver.num_computed[2] = len(shared)
    (copied,) = driver.step(driver.chunk(2), operations=[CopyKV(0, 2, len(shared))]).sampled
    assert (copied.token_id, copied.logprobs) == (computed.token_id, computed.logprobs)


def test_a_copy_replaces_all_that_the_destination_held(driver: StepDriver, oracle: LlamaOracle) -> None:
    shared, old = prompt_of(20), prompt_of(120, 9)
    driver.start(0, shared)
    driver.start(1, old)
    driver.step(driver.chunk(0), driver.chunk(1))
    prompt = shared + prompt_of(5, 3)
    driver.step(ended=[1])
    driver.start(1, prompt)
    driver.num_computed[1] = len(shared)
    driver.step(driver.chunk(1), operations=[CopyKV(0, 1, len(shared))])
    driver.generate(1, num_steps=5)
    assert driver.output(1, prompt) == oracle.greedy(prompt, 6)


def test_copies_in_a_row_are_done_in_order(driver: StepDriver, oracle: LlamaOracle) -> None:
    first, second = prompt_of(30), prompt_of(40, 1)
    driver.start(0, first)
    driver.start(1, second)
    driver.step(driver.chunk(0), driver.chunk(1))
    operations: list[KVOperation] = [CopyKV(0, 2, 30), CopyKV(1, 0, 40), CopyKV(2, 3, 25), TruncateKV(2, 10)]
    driver.step(operations=operations, ended=[0, 1])
    continued = {0: [*second, 7], 3: [*first[:25], 8], 2: [*first[:10], 9]}
    for (slot, prompt), held in zip(continued.items(), (40, 25, 10), strict=True):
        driver.start(slot, prompt)
        driver.num_computed[slot] = held
    driver.generate(*continued, num_steps=6)
    for slot, prompt in continued.items():
        assert driver.output(slot, prompt) == oracle.greedy(prompt, 6)


@pytest.mark.parametrize("kept", [0, 1, 25, 50])
def test_a_truncated_slot_continues_as_if_the_rest_had_never_been(
    driver: StepDriver, oracle: LlamaOracle, kept: int
) -> None:
    old = prompt_of(50)
    driver.start(1, old)
    driver.generate(1, num_steps=10)
    prompt = old[:kept] + prompt_of(12, 4)
    driver.start(1, prompt)
    driver.num_computed[1] = kept
    driver.step(driver.chunk(1), operations=[TruncateKV(1, kept)])
    driver.generate(1, num_steps=9)
    assert driver.output(1, prompt) == oracle.greedy(prompt, 10)


def test_a_recurrent_model_says_that_its_tail_cannot_be_cut(load_backend: LoadBackend, write_model: WriteModel) -> None:
    backend = load_backend(write_model(TinyModel(architecture="mamba")))
    driver = StepDriver(backend)
    driver.start(0, prompt_of(20))
    driver.step(driver.chunk(0))
    with pytest.raises(BackendError, match="recurrent"):
        driver.step(operations=[TruncateKV(0, 5)])


def test_a_step_that_fails_leaves_other_sequences_alone(driver: StepDriver, oracle: LlamaOracle) -> None:
    survivor, victim = prompt_of(20, 1), prompt_of(20, 2)
    driver.start(0, survivor)
    driver.start(1, victim)
    driver.generate(0, 1, num_steps=3)
    with pytest.raises(BackendError, match=r"refused the batch.*remain consecutive"):
        driver.step(SequenceChunk(1, (5,), 99, (1,), True))  # position 99 comes too early
    driver.generate(0, num_steps=5)
    assert driver.output(0, survivor) == oracle.greedy(survivor, 8)
    driver.start(1, victim)
    driver.generate(1, num_steps=5)  # the slot was emptied
    assert driver.output(1, victim) == oracle.greedy(victim, 5)


def test_a_token_that_does_not_exist_fails_the_step_not_the_process(driver: StepDriver) -> None:
    driver.start(0, prompt_of(3))
    with pytest.raises(BackendError, match="invalid token"):
        driver.step(SequenceChunk(0, (10**6,), 0, (0,), True))


def test_a_step_beyond_the_budget_is_refused(load_backend: LoadBackend) -> None:
    driver = StepDriver(load_backend(max_num_batched_tokens=64))
    driver.start(0, prompt_of(65))
    with pytest.raises(BackendError, match="65 tokens is beyond max_num_batched_tokens 64"):
        driver.step(driver.chunk(0))


def test_a_full_slot_fails_the_step_not_the_process(driver: StepDriver) -> None:
    driver.start(0, prompt_of(256))
    driver.step(driver.chunk(0))
    with pytest.raises(BackendError, match="no room in the KV cache"):
        driver.step(driver.chunk(0))


def test_ended_sequences_and_close_free_their_samplers(load_backend: LoadBackend) -> None:
    backend = load_backend()
    driver = StepDriver(backend)
    for slot in range(3):
        driver.start(slot, prompt_of(5), SamplingParams(temperature=1.0, seed=slot))
    driver.generate(0, 1, 2, num_steps=2)
    driver.step(ended=[1])
    assert sorted(backend._sequences) == [0, 2]
    backend.close()
    assert backend._sequences == {}
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        driver.step(driver.chunk(0))


def test_the_kv_cache_has_a_slot_for_each_sequence(load_backend: LoadBackend) -> None:
    backend = load_backend(max_model_len=200, max_num_seqs=3)
    stats = backend.new_kv_cache(enable_prefix_caching=True).stats()
    assert stats.total_tokens == 600
    assert (backend.max_model_len, backend.max_num_seqs, backend.max_num_batched_tokens) == (200, 3, 256)


def test_greedy_means_the_default_sampling_too(driver: StepDriver, oracle: LlamaOracle) -> None:
    prompt = prompt_of(12)
    driver.start(0, prompt, SamplingParams(temperature=1.0, top_k=1))
    driver.start(1, prompt, GREEDY)
    driver.generate(0, 1, num_steps=5)
    assert driver.output(0, prompt) == driver.output(1, prompt) == oracle.greedy(prompt, 5)
