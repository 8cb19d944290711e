"""Sequences that outgrow their context: what is computed again, and that their output knows nothing of it."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from pagemill.backends.fake import DEFAULT_REPLY, EOS, FakeBackend
from pagemill.engine.context_window import ContextWindow
from pagemill.engine.engine import Engine, EngineConfig
from pagemill.engine.step import SequenceShift, StepPlan
from pagemill.errors import ContextLengthError
from pagemill.generation import ContextShift, Delta, FinishReason, GenerationRequest, SamplingParams
from support.scheduler_rig import Rig, said_alone, sizes

WINDOW = ContextWindow(length=12, num_kept=4)  # drops 4


def babble(prompt: tuple[int, ...]) -> None:
    """No script: what is said depends on the context."""


alone = partial(said_alone, ignore_eos=True)


def shifts(plans: list[StepPlan]) -> list[SequenceShift]:
    return [shift for plan in plans for shift in plan.shifted]


def test_a_full_context_drops_its_older_half_and_the_rest_is_computed_again() -> None:
    rig = Rig.build(FakeBackend())
    sequence = rig.add(0, b"0123456789", max_tokens=4, window=WINDOW)
    plans = rig.run()
    assert [sizes(plan) for plan in plans] == [{0: 10}, {0: 1}, {0: 4}, {0: 1}, {}]  # 4 of the 8 that stay are cached
    assert shifts(plans) == [SequenceShift(0, num_kept=4, num_dropped=4)]
    assert plans[2].chunks[0].token_ids == [*b"89", *DEFAULT_REPLY[:2]]
    assert plans[2].chunks[0].start == 4
    assert sequence.token_ids == [*b"012389", *DEFAULT_REPLY[:4]]
    assert (sequence.num_output_tokens, sequence.num_prompt_tokens) == (4, 10)
    assert sequence.finish_reason is FinishReason.LENGTH
    assert rig.scheduler.num_shifts == 1
    assert rig.scheduler.num_preemptions == 0


@pytest.mark.parametrize("kv", ["block", "resident", "pipelined"])
@pytest.mark.parametrize("budget", [4, 512])
def test_what_is_said_after_a_shift_is_what_the_tokens_left_ask_for(kv: str, budget: int) -> None:
    backend = FakeBackend(
        reply=babble,
        kv="resident" if kv == "resident" else "block",
        pipelined=kv == "pipelined",
        max_num_seqs=4,
        max_num_batched_tokens=budget,
    )
    rig = Rig.build(backend)
    rig.add(0, b"0123456789", max_tokens=60, window=WINDOW, ignore_eos=True)
    plans = rig.run()
    assert len(shifts(plans)) == rig.scheduler.num_shifts == 15
    assert rig.said[0] == alone(b"0123456789", None, 60, WINDOW)
    fresh = Rig.build(FakeBackend(reply=babble))
    fresh.add(0, b"012389" + bytes(rig.said[0][:2]), max_tokens=4, ignore_eos=True)
    fresh.run()
    assert fresh.said[0] == rig.said[0][2:6]


def test_logprobs_of_the_prompt_are_not_computed_again() -> None:
    rig = Rig.build(FakeBackend())
    rig.add(0, b"0123456789", max_tokens=20, window=WINDOW, prompt_logprobs=1)
    plans = rig.run()
    assert len(shifts(plans)) == 5
    assert [chunk.prompt_logprobs for plan in plans for chunk in plan.chunks] == [True] + [False] * 19


def test_a_step_in_flight_is_waited_for_when_its_token_fills_the_context() -> None:
    rig = Rig.build(FakeBackend(pipelined=True))
    rig.add(0, b"0123456789", max_tokens=4, window=WINDOW)
    plans = rig.run()
    assert [[(chunk.start, chunk.num_tokens, chunk.follows) for chunk in plan.chunks] for plan in plans] == [
        [(0, 10, False)],
        [(10, 1, True)],
        [],  # the twelfth token is in flight
        [(4, 4, False)],
        [(8, 1, True)],
        [],
        [],
    ]
    assert rig.said[0] == list(DEFAULT_REPLY[:4])


def test_one_that_was_preempted_while_its_context_filled_is_shifted_where_it_waits() -> None:
    rig = Rig.build(FakeBackend(pipelined=True, reply=babble, max_num_seqs=2, num_blocks=3, max_model_len=48))
    windows = [ContextWindow(48, 4), ContextWindow(17, 2)]
    for sequence_id, (length, window) in enumerate(zip((15, 15), windows, strict=True)):
        rig.add(sequence_id, bytes([97 + sequence_id]) * length, max_tokens=20, window=window, ignore_eos=True)
    preempted_full = False
    while rig.has_work:
        rig.step()
        full = [sequence for sequence in rig.scheduler.unfinished() if sequence.is_full]
        preempted_full |= any(sequence.num_computed == 0 for sequence in full)
        assert rig.scheduler.num_preemptions < 100
    assert preempted_full
    for sequence_id, window in enumerate(windows):
        assert rig.said[sequence_id] == alone(bytes([97 + sequence_id]) * 15, None, 20, window)


def test_one_that_ends_by_the_token_that_fills_its_context_is_not_shifted() -> None:
    rig = Rig.build(FakeBackend())
    ended = rig.add(0, b"0123456789", max_tokens=9, window=WINDOW)
    rig.step()
    rig.step()
    assert ended.is_full
    rig.scheduler.finish(ended, FinishReason.STOP)  # as the step loop does when it finds a stop string
    plan = rig.step()
    assert (plan.shifted, plan.chunks, plan.ended) == ((), (), (0,))
    assert rig.scheduler.num_shifts == 0
    assert rig.kv_cache.stats().used_tokens == 0


def asked(prompt: bytes, shift: ContextShift | None, **sampling: Any) -> GenerationRequest:
    params = SamplingParams(**{"temperature": 0.0, "ignore_eos": True, **sampling})
    return GenerationRequest(request_id="r", prompt_token_ids=tuple(prompt), sampling=params, shift=shift)


async def collect(engine: Engine, request: GenerationRequest) -> list[Delta]:
    with engine.generate(request) as stream:
        return [delta async for delta in stream]


Run = Callable[..., list[Delta]]


@pytest.fixture
def run() -> Run:
    """Answer one request on an engine of its own, whose context is 64 tokens."""

    def answer(request: GenerationRequest, *, config: EngineConfig | None = None, **backend: Any) -> list[Delta]:
        async def one() -> list[Delta]:
            engine = Engine(FakeBackend(**{"reply": babble, "max_model_len": 64, **backend}), config)
            engine.start()
            try:
                return await collect(engine, request)
            finally:
                await engine.close()

        return asyncio.run(one())

    return answer


def test_every_token_counts_also_the_dropped_ones(run: Run) -> None:
    deltas = run(asked(b"x" * 40, ContextShift(), max_tokens=300, logprobs=1, prompt_logprobs=0))
    assert [delta.usage.completion_tokens for delta in deltas] == list(range(1, 301))
    assert deltas[-1].usage.prompt_tokens == 40
    assert deltas[-1].finish_reason is FinishReason.LENGTH
    assert all(len(delta.logprobs) == 1 for delta in deltas)
    assert [len(delta.prompt_logprobs) for delta in deltas if delta.prompt_logprobs is not None] == [40]


@pytest.mark.parametrize("offset", range(4))
def test_characters_stay_whole_wherever_the_context_is_cut(run: Run, offset: int) -> None:
    emoji = "😀🎉".encode()  # a token is a byte
    deltas = run(asked(b"x" * (20 + offset), ContextShift(), max_tokens=400), reply=lambda prompt: list(emoji * 50))
    assert "".join(delta.text for delta in deltas) == "😀🎉" * 50


def test_a_stop_string_may_begin_before_a_shift(run: Run) -> None:
    script = [*b"-" * 43, *b"the end", *b"-" * 50]  # the context is full after 44
    deltas = run(asked(b"x" * 20, ContextShift(), stop=("the end",)), reply=lambda prompt: script)
    assert "".join(delta.text for delta in deltas) == "-" * 43
    assert deltas[-1].stop_reason == "the end"


def test_min_tokens_and_penalties_look_back_beyond_the_context(run: Run) -> None:
    held = run(asked(b"x" * 20, ContextShift(), ignore_eos=False, min_tokens=150), reply=lambda prompt: [EOS])
    assert held[-1].usage.completion_tokens == 151
    # Each token can be said once: with what was dropped forgotten, some would come again.
    letters = tuple(range(97, 97 + 100))
    once = run(
        asked(b"0" * 20, ContextShift(), max_tokens=100, allowed_token_ids=letters, repetition_penalty=100.0),
    )
    assert len({token for delta in once for token in delta.token_ids}) == 100


def test_a_request_without_max_tokens_ends_after_so_many_contexts(run: Run) -> None:
    assert run(asked(b"x", ContextShift()))[-1].usage.completion_tokens == 10 * 64
    few = EngineConfig(max_shifted_contexts=3)
    for shift, wanted, length in [
        (ContextShift(), None, 192),
        (ContextShift(), 5000, 192),
        (ContextShift(), 100, 100),
        (ContextShift(context_length=10), None, 30),
        (ContextShift(context_length=100), None, 192),
    ]:
        deltas = run(asked(b"x", shift, max_tokens=wanted), config=few)
        assert deltas[-1].usage.completion_tokens == length
        assert deltas[-1].finish_reason is FinishReason.LENGTH


def test_a_context_is_as_long_as_the_kv_cache_can_hold(run: Run) -> None:
    deltas = run(asked(b"x", ContextShift(), max_tokens=200), num_blocks=2)
    assert [token for delta in deltas for token in delta.token_ids] == alone(b"x", None, 200, ContextWindow(32, 4))


def test_a_prompt_must_leave_room_for_a_token(run: Run) -> None:
    with pytest.raises(ContextLengthError, match=r"maximum context length is 10 tokens.*contains 10 input"):
        run(asked(b"x" * 10, ContextShift(context_length=10)))
    assert run(asked(b"x" * 9, ContextShift(context_length=10), max_tokens=5))[-1].usage.completion_tokens == 5


def test_without_a_shift_an_output_ends_where_the_context_does(run: Run) -> None:
    assert run(asked(b"x" * 10, None))[-1].usage.completion_tokens == 54


async def test_many_that_shift_at_once_say_what_each_says_alone() -> None:
    engine = Engine(FakeBackend(reply=babble, max_model_len=64, max_num_seqs=6, num_blocks=12))
    engine.start()
    try:
        prompts = [bytes([97 + i]) * (5 + 3 * i) for i in range(12)]
        requests = [asked(prompt, ContextShift(i), max_tokens=200) for i, prompt in enumerate(prompts)]
        answers = await asyncio.gather(*(collect(engine, request) for request in requests))
        assert engine.stats().num_shifts > 12 * 3
        assert engine.stats().kv.used_tokens == 0
    finally:
        await engine.close()
    for i, (prompt, deltas) in enumerate(zip(prompts, answers, strict=True)):
        window = ContextWindow.of(ContextShift(i), 64)
        assert [token for delta in deltas for token in delta.token_ids] == alone(prompt, None, 200, window)
