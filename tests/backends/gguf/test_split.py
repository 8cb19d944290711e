"""How a step's chunks become decodes."""

from hypothesis import given
from hypothesis import strategies as st

from pagemill.backends.gguf.backend import split
from pagemill.engine.step import SequenceChunk, StepPlan


@given(
    st.permutations(range(8)),
    st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.booleans()), min_size=1, max_size=8),
    st.integers(8, 12),
)
def test_every_token_is_decoded_once_in_order_of_slots_within_the_limit(
    slots: list[int], shapes: list[tuple[int, bool, bool]], max_outputs: int
) -> None:
    chunks = tuple(
        SequenceChunk(slot, tuple(range(length)), 5, (slot,), sample, prompt_logprobs)
        for slot, (length, sample, prompt_logprobs) in zip(slots, shapes, strict=False)
    )
    decodes = list(split(StepPlan(1, chunks=chunks, num_tokens=sum(shape[0] for shape in shapes)), 512, max_outputs))
    assert all(len(pieces) > 0 for pieces in decodes)
    assert all(sum(piece.num_outputs for piece in pieces) <= max_outputs for pieces in decodes)
    if not any(chunk.prompt_logprobs for chunk in chunks):
        assert len(decodes) == 1
    pieces = [piece for decode in decodes for piece in decode]
    assert [piece.chunk.placement for piece in pieces] == sorted(piece.chunk.placement for piece in pieces)
    covered: dict[int, list[int]] = {index: [] for index in range(len(chunks))}
    for piece in pieces:
        covered[piece.chunk_index].extend(range(piece.first, piece.last))
    assert covered == {index: list(range(len(chunk.token_ids))) for index, chunk in enumerate(chunks)}


def test_a_plan_that_only_frees_decodes_nothing() -> None:
    assert list(split(StepPlan(1, ended=(3,)), 512, 32)) == []
