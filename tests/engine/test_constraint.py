"""Which tokens a sequence may get next: what its format says, put together with what its request says."""

from typing import Any

import pytest

from pagemill.backends import fake
from pagemill.backends.fake import FakeBackend
from pagemill.engine.constraint import Constraint
from pagemill.engine.engine import Engine
from pagemill.errors import StructuredOutputError
from pagemill.generation import Delta, FinishReason, GenerationRequest, SamplingParams, TokenMatcher

EOS = 9
VOCAB_SIZE = 16


class Numbers:
    """A matcher of outputs that are at least `least` and at most `most` tokens from 0 to 3. Fails on `failing`."""

    def __init__(self, least: int, most: int, failing: int | None = None, eos: int = EOS) -> None:
        self.least, self.most, self.failing, self.eos = least, most, failing, eos
        self.said: list[int] = []

    @property
    def may_end(self) -> bool:
        return len(self.said) >= self.least

    def allowed(self) -> bytes:
        mask = 0b1111 if len(self.said) < self.most else 0
        return (mask | (self.may_end << self.eos)).to_bytes(self.eos // 8 + 1, "little")

    def advance(self, token_id: int) -> None:
        if token_id == self.failing:
            raise StructuredOutputError("too complex")
        self.said.append(token_id)

    def matcher(self) -> TokenMatcher:
        return Numbers(self.least, self.most, self.failing, self.eos)


def constraint(least: int, most: int, **sampling: Any) -> Constraint:
    return Constraint(Numbers(least, most), SamplingParams(**sampling), frozenset({EOS}))


def allowed(made: Constraint) -> set[int]:
    mask = made.allowed
    assert mask is not None
    return {token_id for token_id in range(VOCAB_SIZE) if mask[token_id >> 3] >> (token_id & 7) & 1}


def test_end_tokens_are_allowed_where_the_output_may_end() -> None:
    made = constraint(1, 2, stop_token_ids=(12,))
    assert allowed(made) == {0, 1, 2, 3}
    made.advance(0, 1)
    assert allowed(made) == {0, 1, 2, 3, EOS, 12}


def test_ignore_eos_leaves_the_requests_own_end_tokens() -> None:
    assert allowed(constraint(0, 2, ignore_eos=True, stop_token_ids=(12,))) == {0, 1, 2, 3, 12}


def test_no_end_token_is_allowed_before_min_tokens() -> None:
    made = constraint(0, 5, min_tokens=2)
    for count in (1, 2):
        assert allowed(made) == {0, 1, 2, 3}
        made.advance(0, count)
    assert allowed(made) == {0, 1, 2, 3, EOS}


@pytest.mark.parametrize("sampling", [{}, {"ignore_eos": True}, {"min_tokens": 9}, {"stop_token_ids": (12,)}])
def test_an_output_that_nothing_can_follow_is_complete(sampling: dict[str, Any]) -> None:
    made = constraint(1, 1, **sampling)
    made.advance(3, 1)
    assert made.allowed is None


def test_allowed_token_ids_hold_beside_the_format() -> None:
    assert allowed(constraint(1, 2, allowed_token_ids=(2, 3, 12, EOS))) == {2, 3}
    made = constraint(0, 2, allowed_token_ids=(2, EOS))
    assert allowed(made) == {2, EOS}
    with pytest.raises(StructuredOutputError):
        constraint(1, 2, allowed_token_ids=(12, EOS))


def test_what_may_end_and_can_go_on_with_no_allowed_token_is_complete() -> None:
    made = constraint(1, 2, allowed_token_ids=(2,), min_tokens=2)
    made.advance(2, 1)
    assert allowed(made) == {2}
    made.advance(2, 2)
    assert made.allowed is None


async def collect(engine: Engine, request: GenerationRequest) -> list[Delta]:
    with engine.generate(request) as stream:
        return [delta async for delta in stream]


async def test_a_format_that_fails_ends_its_sequence_and_no_other() -> None:
    engine = Engine(FakeBackend(reply=lambda prompt: [0, 1, 2, 3, 3, 3]))
    engine.start()
    greedy = SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True)
    prompt = (65,)
    failing = GenerationRequest(
        request_id="a", prompt_token_ids=prompt, sampling=greedy, constraint=Numbers(0, 9, failing=2, eos=fake.EOS)
    )
    deltas = await collect(engine, failing)
    assert (deltas[-1].finish_reason, deltas[-1].error) == (FinishReason.ERROR, "too complex")
    other = await collect(engine, GenerationRequest(request_id="b", prompt_token_ids=prompt, sampling=greedy))
    assert other[-1].finish_reason is FinishReason.LENGTH
    await engine.close()


class Spoiled(Numbers):
    """Its matchers begin as often as `num_good` says."""

    num_good = 1  # for the check of a request, before it is submitted

    def matcher(self) -> TokenMatcher:
        self.num_good -= 1
        return super().matcher() if self.num_good >= 0 else Unbegun(0, 9)


class Unbegun(Numbers):
    def allowed(self) -> bytes:
        raise StructuredOutputError("spoiled by another output")


@pytest.mark.parametrize("num_good", [1, 2])
async def test_a_format_that_fails_between_check_and_submission_ends_its_choices_and_not_the_engine(
    num_good: int,
) -> None:
    engine = Engine(FakeBackend(reply=lambda prompt: [0, 1, 2, 3, 3, 3]))
    engine.start()
    sampling = SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True)
    constraint = Spoiled(0, 9, eos=fake.EOS)
    constraint.num_good = num_good
    spoiled = GenerationRequest(request_id="a", prompt_token_ids=(65,), sampling=sampling, constraint=constraint, n=2)
    last = {delta.choice_index: delta for delta in await collect(engine, spoiled)}
    ended = [last[index].finish_reason for index in range(2)]
    assert ended == [FinishReason.LENGTH if num_good == 2 else FinishReason.ERROR, FinishReason.ERROR]
    assert last[1].error == "spoiled by another output"
    other = await collect(engine, GenerationRequest(request_id="b", prompt_token_ids=(65,), sampling=sampling))
    assert other[-1].finish_reason is FinishReason.LENGTH
    assert engine.alive
    assert engine.num_unfinished() == 0
    await engine.close()


@pytest.mark.parametrize("pipelined", [False, True])
async def test_a_preempted_output_goes_on_where_it_was(pipelined: bool) -> None:
    """The fake backend checks that no masked step is planned before its token is known."""
    backend = FakeBackend(reply=lambda prompt: None, num_blocks=8, max_model_len=64, pipelined=pipelined)
    engine = Engine(backend)
    engine.start()
    requests = [
        GenerationRequest(
            request_id=str(index),
            prompt_token_ids=(65 + index,) * 20,
            sampling=SamplingParams(seed=index, max_tokens=40),
            constraint=Numbers(24, 24, eos=fake.EOS) if index % 2 else None,
        )
        for index in range(6)
    ]
    streams = [engine.generate(request) for request in requests]
    outputs = [[token_id async for delta in stream for token_id in delta.token_ids] for stream in streams]
    assert engine.stats().num_preemptions > 0
    for output in outputs[1::2]:
        assert len(output) == 24
        assert set(output) <= {0, 1, 2, 3}
    await engine.close()
