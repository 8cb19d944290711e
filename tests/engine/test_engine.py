"""The engine from the outside: streams, limits, aborts, drain, failures, statistics."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from pagemill.backends.fake import DEFAULT_REPLY, EOS, FakeBackend
from pagemill.engine.engine import Engine, EngineConfig
from pagemill.engine.step import StepPlan, StepResult
from pagemill.errors import (
    ContextLengthError,
    DrainingError,
    EngineDeadError,
    InvalidRequestError,
    QueueFullError,
    RequestTimeoutError,
)
from pagemill.generation import Delta, FinishReason, GenerationRequest, SamplingParams

REPLY = bytes(DEFAULT_REPLY[:-1]).decode()


def request(prompt: bytes = b"hello", *, n: int = 1, **sampling: object) -> GenerationRequest:
    params = SamplingParams(**{"temperature": 0.0, **sampling})  # type: ignore[arg-type]
    return GenerationRequest(request_id="r", prompt_token_ids=tuple(prompt), n=n, sampling=params)


@asynccontextmanager
async def running(backend: FakeBackend, config: EngineConfig | None = None) -> AsyncIterator[Engine]:
    engine = Engine(backend, config)
    engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def collect(engine: Engine, asked: GenerationRequest) -> list[Delta]:
    with engine.generate(asked) as stream:
        return [delta async for delta in stream]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (the state is another thread's)
            await asyncio.sleep(0.002)


def text(deltas: list[Delta], choice_index: int = 0) -> str:
    return "".join(delta.text for delta in deltas if delta.choice_index == choice_index)


async def test_many_requests_at_once_each_get_their_own_reply() -> None:
    backend = FakeBackend(reply=lambda prompt: [*reversed(prompt), EOS], max_num_seqs=8, max_num_batched_tokens=64)
    async with running(backend) as engine:
        prompts = [b"prompt number %d" % i * (1 + i % 5) for i in range(40)]
        replies = await asyncio.gather(*(collect(engine, request(prompt)) for prompt in prompts))
    for prompt, deltas in zip(prompts, replies, strict=True):
        assert text(deltas) == prompt[::-1].decode()
        assert [delta.finish_reason for delta in deltas if delta.finish_reason] == [FinishReason.STOP]
        assert deltas[-1].usage[:2] == (len(prompt), len(prompt) + 1)


async def test_n_sequences_have_their_own_index_seed_and_end() -> None:
    async with running(FakeBackend()) as engine:
        asked = request(n=3, temperature=2.0, seed=7, max_tokens=40, ignore_eos=True)
        first, again = await collect(engine, asked), await collect(engine, asked)
    texts = [text(first, i) for i in range(3)]
    assert len(set(texts)) == 3
    assert texts == [text(again, i) for i in range(3)]
    assert sorted(delta.choice_index for delta in first if delta.finish_reason) == [0, 1, 2]


async def test_a_stop_string_across_tokens_ends_the_text_before_it() -> None:
    async with running(FakeBackend()) as engine:
        deltas = await collect(engine, request(stop=("fox j",)))
        assert text(deltas) == "The quick brown "
        assert (deltas[-1].finish_reason, deltas[-1].stop_reason) == (FinishReason.STOP, "fox j")
        kept = await collect(engine, request(stop=("fox",), include_stop_str_in_output=True))
        assert text(kept) == "The quick brown fox"


async def test_a_stop_token_ends_it_and_is_named() -> None:
    async with running(FakeBackend()) as engine:
        deltas = await collect(engine, request(stop_token_ids=(ord("q"),)))
    assert text(deltas) == "The "
    assert deltas[-1].stop_reason == ord("q")


async def test_min_tokens_holds_stops_back_and_ignore_eos_goes_on() -> None:
    async with running(FakeBackend()) as engine:
        held = await collect(engine, request(stop=("quick", "lazy"), min_tokens=20))
        assert text(held) == REPLY[: REPLY.index("lazy")]
        on = await collect(engine, request(ignore_eos=True, max_tokens=60))
    assert text(on) == REPLY
    assert on[-1].usage.completion_tokens == 60
    assert on[-1].finish_reason is FinishReason.LENGTH


async def test_max_tokens_zero_gives_the_prompts_logprobs_and_no_token() -> None:
    async with running(FakeBackend()) as engine:
        deltas = await collect(engine, request(b"abc", max_tokens=0, prompt_logprobs=1))
    assert [delta.token_ids for delta in deltas] == [()]
    assert deltas[0].finish_reason is FinishReason.LENGTH
    prompt_logprobs = deltas[0].prompt_logprobs
    assert prompt_logprobs is not None
    assert [entry and entry.token_id for entry in prompt_logprobs] == [None, ord("b"), ord("c")]


async def test_prompt_logprobs_are_the_same_in_chunks() -> None:
    async with running(FakeBackend()) as engine:
        whole = await collect(engine, request(b"a prompt of some length", prompt_logprobs=2))
    async with running(FakeBackend(max_num_seqs=2, max_num_batched_tokens=4)) as engine:
        chunked = await collect(engine, request(b"a prompt of some length", prompt_logprobs=2))
    assert whole[0].prompt_logprobs == chunked[0].prompt_logprobs
    assert whole[0].prompt_logprobs is not None
    assert len(whole[0].prompt_logprobs) == len(b"a prompt of some length")


async def test_the_context_ends_a_reply_that_is_too_long() -> None:
    async with running(FakeBackend(max_model_len=16)) as engine:
        deltas = await collect(engine, request(b"0123456789", max_tokens=100))
        assert deltas[-1].finish_reason is FinishReason.LENGTH
        assert deltas[-1].usage.completion_tokens == 6
        with pytest.raises(ContextLengthError, match=r"16 tokens.*16 input tokens"):
            engine.generate(request(b"0123456789abcdef"))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"logit_bias": ((999, 1.0),)}, "logit_bias"),
        ({"stop_token_ids": (-1,)}, "stop_token_ids"),
        ({"allowed_token_ids": (65, 259)}, "allowed_token_ids"),
        ({"allowed_token_ids": (EOS,), "min_tokens": 1}, "allowed_token_ids"),
    ],
)
async def test_token_ids_out_of_the_vocabulary_are_refused_by_name(wrong: dict[str, object], named: str) -> None:
    async with running(FakeBackend()) as engine:
        with pytest.raises(InvalidRequestError, match=named):
            engine.generate(request(**wrong))  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError, match="prompt has token id 300"):
            engine.generate(GenerationRequest(request_id="r", prompt_token_ids=(1, 300)))
        assert engine.num_unfinished() == 0


async def test_closing_a_stream_frees_its_sequence_and_wakes_its_reader() -> None:
    backend = FakeBackend(reply=lambda prompt: [65] * 4000, step_delay_s=0.001)
    async with running(backend) as engine:
        stream = engine.generate(request())
        await anext(stream)
        stream.close()
        stream.close()
        assert engine.num_unfinished() == 0
        await until(lambda: engine.stats().num_running == 0 and backend.num_sequences == 0)
        stats = engine.stats()
        assert stats.kv.used_tokens == 0
        assert stats.finished["abort"] == 1


async def test_five_hundred_streams_that_vanish_leave_nothing_behind() -> None:
    backend = FakeBackend(reply=lambda prompt: [65] * 4000, max_num_seqs=32, step_delay_s=0.0005)
    async with running(backend, EngineConfig(max_num_queued_reqs=500)) as engine:
        streams = [engine.generate(request(b"%d" % i)) for i in range(500)]
        await asyncio.gather(*(anext(stream) for stream in streams[:16]))
        for stream in streams:
            stream.close()
        assert engine.num_unfinished() == 0
        await until(lambda: engine.stats().num_waiting == engine.stats().num_running == 0)
        await until(lambda: backend.num_sequences == 0)
        assert engine.stats().kv.used_tokens == 0
        assert len(await collect(engine, request(max_tokens=3))) == 3


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    backend = FakeBackend(reply=lambda prompt: [65] * 4000, max_num_seqs=2, step_delay_s=0.001)
    async with running(backend, EngineConfig(max_num_queued_reqs=1, retry_after_s=7)) as engine:
        streams = [engine.generate(request()) for _ in range(3)]
        with pytest.raises(QueueFullError) as refused:
            engine.generate(request())
        assert refused.value.retry_after_s == 7
        streams[0].close()
        engine.generate(request()).close()


async def test_drain_lets_running_requests_end_and_refuses_new_ones() -> None:
    async with running(FakeBackend(step_delay_s=0.002)) as engine:
        answer = asyncio.create_task(collect(engine, request()))
        await until(lambda: engine.num_unfinished() == 1)
        drained = asyncio.create_task(engine.drain(10))
        await asyncio.sleep(0)
        with pytest.raises(DrainingError):
            engine.generate(request())
        await drained
        assert text(await answer) == REPLY


async def test_drain_aborts_what_outlasts_its_timeout() -> None:
    async with running(FakeBackend(reply=lambda prompt: [65] * 4000, step_delay_s=0.005)) as engine:
        stream = engine.generate(request())
        await engine.drain(0.05)
        assert engine.num_unfinished() == 0
        with pytest.raises(DrainingError):
            async for _delta in stream:
                pass


async def test_a_request_that_takes_too_long_is_ended() -> None:
    backend = FakeBackend(reply=lambda prompt: [65] * 4000, step_delay_s=0.005)
    async with running(backend, EngineConfig(request_timeout_s=0.05)) as engine:
        with pytest.raises(RequestTimeoutError, match=r"0\.05 s"):
            await collect(engine, request())
        await until(lambda: backend.num_sequences == 0)


async def test_a_failed_step_ends_its_sequences_with_the_reason_and_no_others() -> None:
    def fail_on(plan: StepPlan) -> str | None:
        return "the device caught fire" if any(7 in chunk.token_ids for chunk in plan.chunks) else None

    backend = FakeBackend(fail_on=fail_on)
    async with running(backend) as engine:
        deltas = await collect(engine, request(b"\x07"))
        assert deltas[-1].finish_reason is FinishReason.ERROR
        assert deltas[-1].error == "the device caught fire"
        assert engine.alive
        assert text(await collect(engine, request())) == REPLY
        assert engine.stats().kv.used_tokens == 0


class BrokenBackend(FakeBackend):
    """Fails in a way that no backend should."""

    def execute(self, plan: StepPlan) -> StepResult:
        raise RuntimeError("a bug")


async def test_a_dead_step_loop_answers_everybody_and_refuses_what_comes() -> None:
    async with running(BrokenBackend()) as engine:
        deltas = await collect(engine, request())
        assert deltas[-1].finish_reason is FinishReason.ERROR
        assert not engine.alive
        with pytest.raises(EngineDeadError, match="a bug"):
            engine.generate(request())


async def test_requests_that_a_dead_step_loop_never_read_are_answered_too() -> None:
    async with running(BrokenBackend(max_num_seqs=1)) as engine:
        streams = [engine.generate(request()) for _ in range(20)]
        for stream in streams:
            with suppress(EngineDeadError):
                assert (await anext(stream)).finish_reason is FinishReason.ERROR
        assert engine.num_unfinished() == 0


async def test_close_ends_the_thread_and_the_backend_and_can_be_called_twice() -> None:
    backend = FakeBackend(reply=lambda prompt: [65] * 4000, step_delay_s=0.002)
    engine = Engine(backend)
    engine.start()
    stream = engine.generate(request())
    await anext(stream)
    await engine.close()
    await engine.close()
    assert backend.closed
    deltas = [delta async for delta in stream]
    assert deltas[-1].finish_reason is FinishReason.ABORT


async def test_statistics_add_up() -> None:
    async with running(FakeBackend(max_num_seqs=2)) as engine:
        prompt = b"a prompt that is longer than one block"
        for _ in range(3):
            await collect(engine, request(prompt, max_tokens=5))
        stats = engine.stats()
    assert stats.finished == {"stop": 0, "length": 3, "abort": 0, "error": 0}
    assert stats.prompt_tokens == stats.prefix_cache_queries == 3 * len(prompt)
    assert stats.cached_prompt_tokens == stats.prefix_cache_hits == 2 * (len(prompt) - 1)
    assert stats.generation_tokens == 15
    counts = {name: sum(histogram.counts) for name, histogram in stats.histograms.items()}
    assert counts["time_to_first_token_seconds"] == counts["e2e_request_latency_seconds"] == 3
    assert counts["inter_token_latency_seconds"] == 12
    assert stats.histograms["request_prompt_tokens"].sum == 3 * len(prompt)
    assert stats.histograms["iteration_tokens_total"].sum == len(prompt) + 2 + 12
