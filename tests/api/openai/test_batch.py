"""The streams of one request: numbered, fair, and ended together."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pagemill.api.openai.batch import Batch
from pagemill.backends.fake import EOS, FakeBackend
from pagemill.engine.engine import Engine, EngineConfig
from pagemill.errors import QueueFullError
from pagemill.generation import GenerationRequest, SamplingParams
from support.api_server import wait_until


def ask(prompt: bytes, *, n: int = 1, endless: bool = False) -> GenerationRequest:
    sampling = SamplingParams(temperature=0, max_tokens=4000 if endless else 50, ignore_eos=endless)
    return GenerationRequest(request_id="r", prompt_token_ids=tuple(prompt), sampling=sampling, n=n)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """An engine that answers with its prompt."""
    engine = Engine(FakeBackend(reply=lambda prompt: [*prompt, EOS]), EngineConfig(max_num_queued_reqs=0))
    engine.start()
    yield engine
    await engine.close()


async def texts(batch: Batch, count: int) -> list[str]:
    found = [""] * count
    async for number, delta in batch:
        found[number] += delta.text
        while (ready := batch.next_ready()) is not None:
            assert ready[1].finish_reason is None
            found[ready[0]] += ready[1].text
    return found


async def test_choices_are_numbered_in_prompt_by_n_order(engine: Engine) -> None:
    with Batch(engine, [ask(b"a", n=2), ask(b"bb", n=2)]) as batch:
        assert await texts(batch, 4) == ["a", "a", "bb", "bb"]


async def test_late_reader_gets_what_is_ready_at_once_but_no_end(engine: Engine) -> None:
    with Batch(engine, [ask(b"hello")]) as batch:
        await asyncio.to_thread(wait_until, lambda: engine.num_unfinished() == 0)
        assert await texts(batch, 1) == ["hello"]
        assert batch.next_ready() is None


async def test_refused_request_ends_those_before_it(engine: Engine) -> None:
    with pytest.raises(QueueFullError), Batch(engine, [ask(b"a", n=60), ask(b"b", n=60)]):
        pass
    assert engine.num_unfinished() == 0


@pytest.fixture
async def slow_engine() -> AsyncIterator[Engine]:
    """Its endless answers take seconds: a fast one's may end before their reader's first turn, on a busy machine."""
    engine = Engine(FakeBackend(step_delay_s=0.002))
    engine.start()
    yield engine
    await engine.close()


@pytest.mark.parametrize("prompts", [[b"a"], [b"a", b"b", b"c"]], ids=["one", "several"])
async def test_leaving_early_ends_all_and_leaves_no_task(slow_engine: Engine, prompts: list[bytes]) -> None:
    engine = slow_engine
    before = asyncio.all_tasks()
    with Batch(engine, [ask(prompt, endless=True) for prompt in prompts]) as batch:
        await anext(batch)
        assert engine.num_unfinished() == len(prompts)
    await asyncio.sleep(0.01)
    assert engine.num_unfinished() == 0
    assert asyncio.all_tasks() == before
