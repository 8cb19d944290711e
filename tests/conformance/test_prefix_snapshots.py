"""A restored prefix is as good as a computed one: the same tokens, for one client or several, on any backend."""

import asyncio
from typing import Any

import pytest

from conformance.conftest import MAX_MODEL_LEN, LoadBackend, OpenEngine
from conformance.test_semantics import ask, run, tokens
from pagemill.backends.base import Backend
from pagemill.engine.engine import Engine
from pagemill.engine.prefix import compute_prefix
from pagemill.errors import BackendError, ModelLoadError
from pagemill.generation import Delta

PREFIX = "You are the miller of a paper mill by the river. Answer in verse, and name the colour of the paper. "
QUESTIONS = ("Who are you?", "What is it made of", "zzz", "You are the miller of a paper mill, are you not?")
STEP_TOKENS = 32  # the prefix takes several steps
SAMPLINGS: tuple[dict[str, Any], ...] = ({"temperature": 0.0}, {"temperature": 1.3, "seed": 7, "top_k": 40})


def prefix_ids(backend: Backend | Engine, text: str = PREFIX) -> tuple[int, ...]:
    return tuple(backend.tokenizer.encode(text, add_special=False, parse_special=False))


def saved(load_backend: LoadBackend, text: str = PREFIX) -> tuple[tuple[int, ...], memoryview]:
    """The tokens of a prefix and their KV, as another process would have made them."""
    backend = load_backend(1, STEP_TOKENS)
    try:
        token_ids = prefix_ids(backend, text)
        return token_ids, memoryview(bytearray(compute_prefix(backend, token_ids)))
    finally:
        backend.close()


def cached_tokens(deltas: list[Delta]) -> int:
    return deltas[-1].usage.cached_tokens


@pytest.mark.parametrize("sampling", SAMPLINGS)
async def test_tokens_are_those_of_an_engine_that_computes_the_prefix(
    load_backend: LoadBackend, open_engine: OpenEngine, sampling: dict[str, Any]
) -> None:
    token_ids, data = saved(load_backend)
    restored, plain = [await open_engine(max_num_batched_tokens=STEP_TOKENS) for _ in range(2)]
    await restored.restore(token_ids, data)
    for turn, question in enumerate(QUESTIONS):
        with_snapshot = await run(restored, ask(restored, PREFIX + question, **sampling))
        without = await run(plain, ask(plain, PREFIX + question, **sampling))
        assert tokens(with_snapshot) == tokens(without)
        assert cached_tokens(with_snapshot) >= len(token_ids)
        assert turn > 0 or cached_tokens(without) == 0  # later ones find what the first left behind


@pytest.mark.parametrize("sampling", SAMPLINGS)
async def test_a_restored_prefix_is_what_an_ordinary_request_would_have_left(
    load_backend: LoadBackend, open_engine: OpenEngine, sampling: dict[str, Any]
) -> None:
    token_ids, data = saved(load_backend)
    restored, warmed = [await open_engine(max_num_batched_tokens=STEP_TOKENS) for _ in range(2)]
    await restored.restore(token_ids, data)
    await run(warmed, ask(warmed, PREFIX, max_tokens=1))
    answers = [await run(engine, ask(engine, PREFIX + QUESTIONS[0], **sampling)) for engine in (restored, warmed)]
    assert tokens(answers[0]) == tokens(answers[1])
    assert cached_tokens(answers[0]) == cached_tokens(answers[1]) == len(token_ids)


async def test_requests_that_come_at_once_all_begin_with_it(load_backend: LoadBackend, open_engine: OpenEngine) -> None:
    token_ids, data = saved(load_backend)
    restored, plain = await open_engine(), await open_engine()
    await restored.restore(token_ids, data)
    at_once = await asyncio.gather(
        *(run(restored, ask(restored, PREFIX + question, temperature=0.0)) for question in QUESTIONS)
    )
    for question, answer in zip(QUESTIONS, at_once, strict=True):
        assert cached_tokens(answer) >= len(token_ids)
        assert tokens(answer) == tokens(await run(plain, ask(plain, PREFIX + question, temperature=0.0)))


async def test_prompts_that_share_a_part_of_it_begin_with_that_part(
    load_backend: LoadBackend, open_engine: OpenEngine
) -> None:
    token_ids, data = saved(load_backend)
    restored, plain = await open_engine(), await open_engine()
    await restored.restore(token_ids, data)
    half = PREFIX[: len(PREFIX) // 2]
    for question in QUESTIONS[:2]:
        answer = await run(restored, ask(restored, half + question, temperature=0.0))
        assert 0 < cached_tokens(answer) <= len(prefix_ids(restored, half + question))
        assert tokens(answer) == tokens(await run(plain, ask(plain, half + question, temperature=0.0)))


async def test_two_prefixes_are_there_side_by_side(load_backend: LoadBackend, open_engine: OpenEngine) -> None:
    engine = await open_engine()
    texts = (PREFIX, "Once upon a time there was a mill. " + PREFIX)
    for text in texts:
        await engine.restore(*saved(load_backend, text))
    for text in texts:
        answer = await run(engine, ask(engine, text + QUESTIONS[0]))
        assert cached_tokens(answer) == len(prefix_ids(engine, text))


async def test_a_prefix_that_leaves_no_room_for_a_prompt_is_refused_with_the_numbers(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    token_ids = (*prefix_ids(engine, "a"),) * MAX_MODEL_LEN
    with pytest.raises(ModelLoadError, match=f"its {MAX_MODEL_LEN} tokens leave no room .* {MAX_MODEL_LEN}"):
        await engine.restore(token_ids, memoryview(bytearray()))


async def test_data_that_is_no_kv_is_refused_and_nothing_of_it_stays(
    load_backend: LoadBackend, open_engine: OpenEngine
) -> None:
    token_ids, data = saved(load_backend)
    restored, plain = await open_engine(), await open_engine()
    with pytest.raises(BackendError):
        await restored.restore(token_ids, data[: len(data) // 2])
    answer = await run(restored, ask(restored, PREFIX, temperature=0.0))
    assert cached_tokens(answer) == 0
    assert tokens(answer) == tokens(await run(plain, ask(plain, PREFIX, temperature=0.0)))


async def test_a_prefix_is_restored_while_requests_run(load_backend: LoadBackend, open_engine: OpenEngine) -> None:
    token_ids, data = saved(load_backend)
    engine, plain = await open_engine(), await open_engine()
    running = asyncio.create_task(run(engine, ask(engine, "zzz", temperature=0.0, max_tokens=40)))
    await asyncio.sleep(0)
    await engine.restore(token_ids, data)
    assert cached_tokens(await run(engine, ask(engine, PREFIX + QUESTIONS[0]))) == len(token_ids)
    assert tokens(await running) == tokens(await run(plain, ask(plain, "zzz", temperature=0.0, max_tokens=40)))
