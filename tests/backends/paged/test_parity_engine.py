"""The whole paged backend under its engine against transformers' `generate`, in float32: however a batch is scheduled,
the tokens are the same.
"""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pagemill.backends.paged.backend import PagedBackend
from pagemill.backends.paged.options import PagedOptions
from pagemill.engine.engine import Engine, EngineConfig
from pagemill.engine.statistics import EngineStats
from pagemill.generation import GenerationRequest, SamplingParams
from support.model_zoo import DECODERS, FOREIGN
from support.parity import NUM_TOKENS, one_thread
from support.tiny_safetensors import TinyModel
from support.transformers_oracle import expected_answers, random_texts

BLOCK_SIZE = 16
MAX_MODEL_LEN = 256
ZOO = {**DECODERS, **FOREIGN}


class Case(NamedTuple):
    """A model folder, the prompts of a mixed batch of 8, and what `generate` says to them."""

    folder: Path
    block_bytes: int
    prompts: list[list[int]]
    expected: list[list[int]]


@pytest.fixture(scope="module", params=ZOO)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    tiny = ZOO[request.param]
    folder = tiny.write(tmp_path_factory.mktemp(request.param) / "model")
    with one_thread():
        prompts = random_texts(tiny.config().vocab_size)
        yield Case(folder, _block_bytes(tiny), prompts, expected_answers(tiny.model(), prompts, NUM_TOKENS))


def _block_bytes(tiny: TinyModel) -> int:
    """At least what a page takes, in float32."""
    config: Any = tiny.config()
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "qk_head_dim", None) or getattr(config, "head_dim", None)
    head_dim = head_dim or config.hidden_size // config.num_attention_heads
    return int(config.num_hidden_layers * 2 * kv_heads * head_dim * 4 * BLOCK_SIZE)


def answers(
    case: Case, *, budget: int, cached: bool, num_blocks: int = 256, pipelined: bool = False, rounds: int = 1
) -> tuple[list[list[int]], EngineStats]:
    """What the engine says to all prompts at once, `rounds` times, and its statistics after the last."""
    options = PagedOptions(
        device="cpu",
        block_size=BLOCK_SIZE,
        kv_cache_memory_bytes=num_blocks * case.block_bytes,
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=8,
        max_num_batched_tokens=budget,
        threads=1,
        async_scheduling=pipelined,
    )
    backend = PagedBackend.load(case.folder, options)

    async def ask_all() -> tuple[list[list[int]], EngineStats]:
        engine = Engine(backend, EngineConfig(enable_prefix_caching=cached))
        engine.start()
        try:
            for _ in range(rounds):
                outputs = await asyncio.gather(*(_ask(engine, prompt) for prompt in case.prompts))
            return list(outputs), engine.stats()
        finally:
            await engine.close()

    return asyncio.run(ask_all())


async def _ask(engine: Engine, prompt: Sequence[int]) -> list[int]:
    sampling = SamplingParams(temperature=0.0, max_tokens=NUM_TOKENS, ignore_eos=True)
    with engine.generate(
        GenerationRequest(request_id="r", prompt_token_ids=tuple(prompt), sampling=sampling)
    ) as stream:
        return [token_id async for delta in stream for token_id in delta.token_ids]


def test_whole_prompts_without_a_prefix_cache(case: Case) -> None:
    said, stats = answers(case, budget=512, cached=False)
    assert said == case.expected
    assert stats.prefix_cache_hits == 0


def test_chunks_of_16_with_a_prefix_cache_and_again_from_it(case: Case) -> None:
    said, stats = answers(case, budget=16, cached=True, rounds=2)
    assert said == case.expected
    assert stats.prefix_cache_hits > sum(len(prompt) // BLOCK_SIZE * BLOCK_SIZE for prompt in case.prompts) // 2


@pytest.mark.parametrize("pipelined", [False, True])
def test_preempted_sequences_say_the_same(case: Case, pipelined: bool) -> None:
    said, stats = answers(case, budget=512, cached=True, num_blocks=24, pipelined=pipelined)
    assert said == case.expected
    assert stats.num_preemptions > 0
