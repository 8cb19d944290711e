"""The scheduler's promises: order, budget, laws, and that nothing but rounding tells how a sequence was scheduled."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagemill.backends.fake import BLOCK_SIZE, DEFAULT_REPLY, EOS, FakeBackend
from pagemill.engine.context_window import ContextWindow
from pagemill.engine.sequence import Sequence
from pagemill.engine.step import CopyKV, StepPlan
from pagemill.generation import ContextShift, FinishReason
from support.scheduler_rig import Rig, said_alone, sizes


def test_a_long_prompt_is_cut_into_chunks_and_decodes_go_first() -> None:
    rig = Rig.build(FakeBackend(max_num_seqs=4, max_num_batched_tokens=16))
    rig.add(0, b"a" * 4)
    assert sizes(rig.step()) == {0: 4}
    rig.add(1, b"b" * 40)
    assert sizes(rig.step()) == {0: 1, 1: 15}
    assert sizes(rig.step()) == {0: 1, 1: 15}
    assert sizes(rig.step()) == {0: 1, 1: 10}
    assert sizes(rig.step()) == {0: 1, 1: 1}


def test_waiting_sequences_come_in_by_priority_then_arrival() -> None:
    rig = Rig.build(FakeBackend(max_num_seqs=1))
    for sequence_id, priority in enumerate((5, 0, 5, -1)):
        rig.add(sequence_id, b"p%d" % sequence_id, priority=priority)
    order = [start.sequence_id for plan in rig.run() for start in plan.started]
    assert order == [3, 1, 0, 2]


def test_a_preempted_sequence_returns_its_blocks_and_says_the_same() -> None:
    backend = FakeBackend(max_num_seqs=4, num_blocks=6, max_model_len=96)
    rig = Rig.build(backend)
    sequences = [rig.add(i, b"%d" % i * 20, max_tokens=40) for i in range(3)]
    rig.run()
    assert rig.scheduler.num_preemptions > 0
    for sequence in sequences:
        assert sequence.token_ids[20:] == list(DEFAULT_REPLY[:40])
        assert sequence.finish_reason is FinishReason.LENGTH
    assert rig.kv_cache.stats().used_tokens == 0
    assert backend.num_sequences == 0


def test_the_last_in_line_is_preempted_first() -> None:
    rig = Rig.build(FakeBackend(max_num_seqs=4, num_blocks=4, max_model_len=64))
    first = rig.add(0, b"a" * 31, max_tokens=20)
    second = rig.add(1, b"b" * 31, max_tokens=20)
    for _ in range(3):
        rig.step()
    assert first.num_computed > 31
    assert second.num_computed == 0
    assert rig.scheduler.num_waiting == 1


def test_nobody_comes_in_by_the_step_that_threw_somebody_out() -> None:
    rig = Rig.build(FakeBackend(max_num_seqs=4, num_blocks=4, max_model_len=64))
    for sequence_id, length in enumerate((31, 31)):
        rig.add(sequence_id, b"%d" % sequence_id * length, max_tokens=20)
    rig.step()
    rig.step()
    rig.add(2, b"z", max_tokens=2, priority=-1)  # first in line, and there would be a block for it
    plan = rig.step()
    assert rig.scheduler.num_preemptions == 1
    assert sizes(plan) == {0: 1}
    assert plan.started == ()


def test_a_sequence_waits_for_a_prefix_that_is_being_computed() -> None:
    rig = Rig.build(FakeBackend(max_num_seqs=4, max_num_batched_tokens=128))
    prefix = b"x" * 96
    rig.add(0, prefix + b"one")
    rig.add(1, prefix + b"two")
    assert sizes(rig.step()) == {0: 99}
    assert sizes(rig.step()) == {0: 1, 1: 3}


def test_n_continuations_of_one_prompt_compute_it_once() -> None:
    rig = Rig.build(FakeBackend(max_num_seqs=4, max_num_batched_tokens=128))
    for sequence_id in range(3):
        rig.add(sequence_id, b"x" * 45)
    assert sizes(rig.step()) == {0: 45}
    plan = rig.step()
    assert sizes(plan) == {0: 1, 1: 1, 2: 1}
    assert [operation.num_tokens for operation in plan.kv_operations if isinstance(operation, CopyKV)] == [12, 12]


def test_a_few_common_tokens_are_not_waited_for() -> None:
    rig = Rig.build(FakeBackend(max_num_seqs=4, max_num_batched_tokens=256))
    rig.add(0, b"x" * 20 + b"1" * 60)
    rig.add(1, b"x" * 20 + b"2" * 60)
    assert set(sizes(rig.step())) == {0, 1}


def test_prompt_logprobs_take_nothing_from_the_cache() -> None:
    rig = Rig.build(FakeBackend())
    rig.add(0, b"x" * 64)
    rig.run()
    rig.add(1, b"x" * 64, max_tokens=2, prompt_logprobs=1)
    assert sizes(rig.step()) == {1: 64}


def test_finish_in_any_state_frees_everything() -> None:
    backend = FakeBackend(max_num_seqs=1)
    rig = Rig.build(backend)
    running, waiting = rig.add(0, b"run"), rig.add(1, b"wait")
    rig.step()
    for sequence in (running, waiting, running):
        rig.scheduler.finish(sequence, FinishReason.ABORT)
    plan = rig.step()
    assert plan.ended == (0,)
    assert plan.chunks == ()
    assert not rig.scheduler.has_work
    assert backend.num_sequences == 0
    assert rig.kv_cache.stats().used_tokens == 0


def test_a_pipelined_decode_follows_the_step_in_flight_and_stops_at_its_last_token() -> None:
    rig = Rig.build(FakeBackend(pipelined=True))
    sequence = rig.add(0, b"prompt", max_tokens=3)
    plans = rig.run()
    assert [[(chunk.start, chunk.follows) for chunk in plan.chunks] for plan in plans] == [
        [(0, False)],
        [(6, True)],
        [(7, True)],
        [],  # the third token is in flight, and the last
        [],  # the backend hears of the end
    ]
    assert sequence.token_ids[6:] == list(DEFAULT_REPLY[:3])


def test_what_is_computed_beyond_an_unforeseen_end_is_passed_over() -> None:
    rig = Rig.build(FakeBackend(pipelined=True, reply=lambda prompt: [1, EOS]))
    sequence = rig.add(0, b"prompt", max_tokens=9)
    plans = rig.run()
    assert sum(len(plan.chunks) for plan in plans) == 3  # one too many: EOS was not known when it was planned
    assert sequence.token_ids[6:] == [1, EOS]
    assert rig.kv_cache.stats().used_tokens == 0


def test_a_sequence_preempted_while_its_token_is_sampled_keeps_the_token() -> None:
    backend = FakeBackend(max_num_seqs=4, num_blocks=6, max_model_len=96, pipelined=True)
    rig = Rig.build(backend)
    sequences = [rig.add(i, b"%d" % i * 20, max_tokens=40) for i in range(3)]
    rig.run()
    assert rig.scheduler.num_preemptions > 0
    assert all(sequence.token_ids[20:] == list(DEFAULT_REPLY[:40]) for sequence in sequences)


def test_a_budget_too_small_for_the_sequences_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_num_batched_tokens \(4\)"):
        Rig.build(FakeBackend(max_num_seqs=8, max_num_batched_tokens=4))


arrivals = st.lists(
    st.tuples(
        st.integers(0, 3),  # steps before it arrives
        st.integers(0, 60),  # length of the common prefix
        st.binary(min_size=1, max_size=20),
        st.integers(1, 60),  # max_tokens
        st.integers(-1, 1),  # priority
        st.one_of(st.none(), st.integers(0, 12)),  # aborted after so many steps
        st.one_of(
            st.none(), st.tuples(st.integers(1, 40), st.integers(-1, 90))
        ),  # window: tokens after the prompt, kept
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=160, deadline=None)
@given(
    arrivals=arrivals,
    budget=st.sampled_from([8, 16, 512]),
    kv=st.sampled_from(["block", "resident", "pipelined"]),
    num_blocks=st.sampled_from([10, 40]),
    prefix_caching=st.booleans(),
)
def test_every_sequence_ends_once_with_the_same_tokens_however_it_was_scheduled(
    arrivals: list[tuple[int, int, bytes, int, int, int | None, tuple[int, int] | None]],
    budget: int,
    kv: str,
    num_blocks: int,
    prefix_caching: bool,
) -> None:
    def reply(prompt: tuple[int, ...]) -> list[int] | None:
        if prompt[-1] % 2:  # no script: what it says depends on its context
            return None
        return [(sum(prompt) + i) % 256 for i in range(len(prompt) % 50)] + [EOS]

    backend = FakeBackend(
        reply=reply,
        max_num_seqs=4,
        max_num_batched_tokens=budget,
        max_model_len=BLOCK_SIZE * 10,
        kv="resident" if kv == "resident" else "block",
        num_blocks=num_blocks,
        pipelined=kv == "pipelined",
    )
    rig = Rig.build(backend, prefix_caching=prefix_caching)
    sequences: list[Sequence] = []
    aborts: list[tuple[int, Sequence]] = []
    clock = 0
    for wait, prefix, tail, max_tokens, priority, abort_after, shifts in arrivals:
        for _ in range(wait):
            if rig.has_work:
                rig.step()
                clock += 1
        prompt = b"x" * prefix + tail
        window = None
        if shifts is not None:
            window = ContextWindow.of(ContextShift(shifts[1]), len(prompt) + shifts[0])
        sequence = rig.add(len(sequences), prompt, max_tokens=max_tokens, priority=priority, window=window)
        sequences.append(sequence)
        if abort_after is not None:
            aborts.append((clock + abort_after, sequence))
    while rig.has_work:
        for at, sequence in aborts:
            if at <= clock:
                rig.scheduler.finish(sequence, FinishReason.ABORT)
        rig.step()
        clock += 1
        assert clock < 5000, "the scheduler makes no progress"
    for sequence in sequences:
        said, prompt_ids = rig.said[sequence.sequence_id], sequence.prompt_token_ids
        expected = said_alone(prompt_ids, reply(prompt_ids), sequence.max_tokens, sequence.window)
        assert sequence.finish_reason is not None
        assert sequence.num_output_tokens == len(said)
        assert sequence.window is None or sequence.num_tokens <= sequence.window.length
        if sequence.finish_reason is FinishReason.ABORT:
            assert said == expected[: len(said)]
        else:
            assert said == expected
            stopped = expected[-1] == EOS
            assert sequence.finish_reason is (FinishReason.STOP if stopped else FinishReason.LENGTH)
    assert backend.num_sequences == 0
    assert rig.kv_cache.stats().used_tokens == 0


def test_the_same_arrivals_give_the_same_plans() -> None:
    def plans() -> list[StepPlan]:
        rig = Rig.build(FakeBackend(max_num_seqs=3, max_num_batched_tokens=24, num_blocks=12, max_model_len=96))
        for i in range(8):
            rig.add(i, b"shared prefix of some length" + b"%d" % (i % 3) * i, max_tokens=30, priority=i % 2)
        return rig.run()

    assert plans() == plans()
