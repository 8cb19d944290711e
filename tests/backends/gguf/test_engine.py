"""The engine over the gguf backend: many clients, prefixes shared and copied, and still the plain loop's tokens."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.engine.engine import Engine, EngineConfig
from pagemill.generation import FinishReason, GenerationRequest, SamplingParams
from support.llama_oracle import LlamaOracle

LoadBackend = Callable[..., GGUFBackend]
SHARED = [(index * 37 + 11) % 256 for index in range(60)]


@pytest.fixture(params=[True, False], ids=["prefix cache", "no prefix cache"])
async def engine(load_backend: LoadBackend, request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    backend = load_backend(max_num_batched_tokens=64)
    engine = Engine(backend, EngineConfig(enable_prefix_caching=request.param))
    engine.start()
    yield engine
    await engine.close()


def caches(engine: Engine) -> bool:
    return engine._config.enable_prefix_caching


async def generate(engine: Engine, name: str, prompt: list[int], sampling: SamplingParams) -> tuple[list[int], int]:
    """Output tokens, and how many of the prompt's were cached."""
    tokens: list[int] = []
    cached = 0
    with engine.generate(
        GenerationRequest(request_id=name, prompt_token_ids=tuple(prompt), sampling=sampling)
    ) as stream:
        async for delta in stream:
            tokens.extend(delta.token_ids)
            cached = delta.usage.cached_tokens
            assert delta.finish_reason in (None, FinishReason.LENGTH), delta.error
    return tokens, cached


async def test_many_clients_get_the_plain_loops_tokens(engine: Engine, oracle: LlamaOracle) -> None:
    greedy = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
    prompts = [[*SHARED[: 20 + index % 41], index, index + 1] for index in range(24)]
    results = await asyncio.gather(
        *(generate(engine, f"request-{index}", prompt, greedy) for index, prompt in enumerate(prompts))
    )
    for prompt, (tokens, _cached) in zip(prompts, results, strict=True):
        assert tokens == oracle.greedy(prompt, 12)
    hits = sum(cached for _tokens, cached in results)
    assert hits > 100 if caches(engine) else hits == 0


async def test_a_conversation_goes_on_from_its_own_kv(engine: Engine, oracle: LlamaOracle) -> None:
    greedy = SamplingParams(temperature=0.0, max_tokens=10, ignore_eos=True)
    first, _ = await generate(engine, "first", SHARED, greedy)
    prompt = [*SHARED, *first, 5, 6, 7]
    second, cached = await generate(engine, "second", prompt, greedy)
    assert second == oracle.greedy(prompt, 10)
    assert cached == (len(SHARED) + len(first) - 1 if caches(engine) else 0)  # nobody computed the last token's KV


async def test_clients_that_leave_disturb_nobody(engine: Engine, oracle: LlamaOracle) -> None:
    async def leave(index: int) -> None:
        sampling = SamplingParams(max_tokens=100, seed=index)
        request = GenerationRequest(request_id=f"gone-{index}", prompt_token_ids=tuple(SHARED), sampling=sampling)
        with engine.generate(request) as stream:
            await anext(stream)

    greedy = SamplingParams(temperature=0.0, max_tokens=30, ignore_eos=True)
    stays = asyncio.create_task(generate(engine, "stays", SHARED[:9], greedy))
    await asyncio.gather(*(leave(index) for index in range(10)))
    tokens, _ = await stays
    assert tokens == oracle.greedy(SHARED[:9], 30)
    assert engine.num_unfinished() == 0
