"""How a plan becomes tensors: the order of the rows, where each token's keys go, and whose token a follower takes."""

from collections.abc import Sequence

import torch

from pagemill.backends.paged.batch import BatchBuilder
from pagemill.engine.step import SequenceChunk, StepPlan

BLOCK_SIZE = 4


def builder(**limits: int) -> BatchBuilder:
    sizes = {"max_num_seqs": 8, "max_num_batched_tokens": 64, "max_blocks": 8, **limits}
    return BatchBuilder(block_size=BLOCK_SIZE, device=torch.device("cpu"), **sizes)


def prefill(sequence_id: int, tokens: Sequence[int], start: int, blocks: Sequence[int], sample: bool) -> SequenceChunk:
    return SequenceChunk(sequence_id, list(tokens), start, tuple(blocks), sample)


def plan(*chunks: SequenceChunk) -> StepPlan:
    return StepPlan(step_id=1, chunks=chunks, num_tokens=sum(chunk.num_tokens for chunk in chunks))


def test_sequences_of_one_token_come_first_and_each_token_has_its_slot() -> None:
    long = prefill(7, [10, 11, 12], start=3, blocks=[5, 2], sample=True)
    decode = prefill(8, [20], start=4, blocks=[0, 6], sample=True)
    step = builder().build(plan(long, decode), {})
    assert step.token_ids.tolist() == [20, 10, 11, 12]
    assert step.positions.tolist() == [4, 3, 4, 5]
    assert step.batch.slots.tolist() == [6 * 4, 5 * 4 + 3, 2 * 4, 2 * 4 + 1]
    assert step.batch.num_decodes == 1
    assert step.batch.query_starts.tolist() == [0, 1, 4]
    assert step.batch.context_lens.tolist() == [5, 6]
    assert step.batch.block_tables.tolist() == [[0, 6], [5, 2]]
    assert (step.batch.max_query_len, step.batch.max_context_len) == (3, 6)
    assert [tuple(each) for each in step.batch.prefills] == [(1, 1, 3, 6)]


def test_samples_are_in_the_order_of_the_plan() -> None:
    step = builder().build(
        plan(
            prefill(1, [10, 11], start=0, blocks=[0], sample=True),
            prefill(2, [20], start=0, blocks=[1], sample=True),
            prefill(3, [30, 31, 32], start=0, blocks=[2], sample=False),
        ),
        {},
    )
    assert step.token_ids[step.sample_rows].tolist() == [11, 20]


def test_a_follower_takes_the_token_that_was_sampled_for_it() -> None:
    known = SequenceChunk(4, [40], 7, (0, 1), True)
    follower = SequenceChunk(5, [], 2, (3,), True, follows=True)
    step = builder().build(plan(known, follower), {9: 0, 5: 1})
    assert step.follower_rows.tolist() == [1]
    assert step.followed_samples.tolist() == [1]
    assert step.positions.tolist() == [7, 2]
    assert step.token_ids[0] == 40


def test_pages_that_are_reserved_beyond_the_context_are_left_out() -> None:
    step = builder().build(plan(prefill(1, [1, 2], start=0, blocks=[3, 4, 5], sample=True)), {})
    assert step.batch.block_tables.tolist() == [[3]]


def test_a_sequence_whose_pages_changed_has_the_new_ones() -> None:
    batches = builder()
    batches.build(plan(prefill(1, [1, 2], start=0, blocks=[3], sample=True)), {})
    moved = batches.build(plan(prefill(1, [1, 2], start=0, blocks=[6], sample=True)), {})
    assert moved.batch.slots.tolist() == [24, 25]
    batches.forget([1])
    again = batches.build(plan(prefill(1, [1, 2], start=0, blocks=[2], sample=True)), {})
    assert again.batch.slots.tolist() == [8, 9]


def test_a_step_stays_valid_while_the_next_is_laid_out() -> None:
    batches = builder()
    first = batches.build(plan(prefill(1, [1, 2, 3], start=0, blocks=[0], sample=True)), {})
    batches.build(plan(prefill(2, [7, 8, 9], start=0, blocks=[1], sample=True)), {})
    assert first.token_ids.tolist() == [1, 2, 3]


def test_the_largest_step_fits_its_buffer() -> None:
    batches = builder(max_num_seqs=4, max_num_batched_tokens=16, max_blocks=3)
    chunks = [prefill(i, [1, 2, 3, 4], start=8, blocks=[0, 1, 2], sample=True) for i in range(4)]
    assert batches.build(plan(*chunks), {}).token_ids.tolist() == [1, 2, 3, 4] * 4
