"""One semantics for sampling, stops, logprobs and usage, whatever runs the model.

The oracle is a plain reference over the whole raw distribution, which `logprobs` = vocabulary size lays open: what
bias, penalties and filters allow is computed here, and what the backend chose is held against it.
"""

import asyncio
import math
from collections import Counter
from typing import Any

import pytest

from conformance.conftest import OpenEngine
from pagemill.engine.engine import Engine
from pagemill.errors import InvalidRequestError
from pagemill.generation import Delta, FinishReason, GenerationRequest, SamplingParams, TokenLogprobs

PROMPT = "Once upon a time there was a paper mill by the river, and in it"
OTHERS = ["The weather today", "1, 2, 3, 4, 5, 6, 7, 8, 9", "zzz", "A much longer prompt " * 5]


def ask(engine: Engine, prompt: str = PROMPT, *, n: int = 1, **sampling: Any) -> GenerationRequest:
    token_ids = engine.tokenizer.encode(prompt, add_special=False, parse_special=False)
    params = SamplingParams(**{"max_tokens": 16, "ignore_eos": True, **sampling})
    return GenerationRequest(request_id="r", prompt_token_ids=tuple(token_ids), n=n, sampling=params)


async def run(engine: Engine, request: GenerationRequest) -> list[Delta]:
    with engine.generate(request) as stream:
        return [delta async for delta in stream]


async def run_in_company(engine: Engine, request: GenerationRequest) -> list[Delta]:
    """With strangers in the batch, of other lengths and samplings."""
    company = [run(engine, ask(engine, other, temperature=1.5, max_tokens=20 + i)) for i, other in enumerate(OTHERS)]
    return (await asyncio.gather(*company, run(engine, request)))[-1]


def tokens(deltas: list[Delta], choice_index: int = 0) -> list[int]:
    return [token for delta in deltas if delta.choice_index == choice_index for token in delta.token_ids]


def entries(deltas: list[Delta]) -> list[TokenLogprobs]:
    return [entry for delta in deltas for entry in delta.logprobs]


def adjusted(
    raw: TokenLogprobs, prompt: tuple[int, ...], output: list[int], sampling: SamplingParams
) -> dict[int, float]:
    """The reference: bias, then penalties as vLLM defines them, over the whole distribution.

    Logits are known up to a constant only, and a repetition penalty depends on it; so that one is tested apart.
    """
    logits = {entry.token_id: entry.logprob for entry in raw.top}
    for token_id, bias in sampling.logit_bias:
        logits[token_id] += bias
    if sampling.penalty_last_n is not None:
        output = output[max(0, len(output) - sampling.penalty_last_n) :]
    for token_id, count in Counter(output).items():
        logits[token_id] -= sampling.presence_penalty + sampling.frequency_penalty * count
    return logits


@pytest.mark.parametrize(
    "sampling",
    [{"temperature": 0.0}, {"top_k": 1}, {"temperature": 0.0, "top_p": 0.1, "seed": 3}, {"temperature": 1e-40}],
)
async def test_greedy_takes_the_most_likely_token_whoever_is_in_the_batch(
    open_engine: OpenEngine, sampling: dict[str, Any]
) -> None:
    engine = await open_engine()
    alone = await run(engine, ask(engine, logprobs=1, **sampling))
    company = await run_in_company(engine, ask(engine, logprobs=1, **sampling))
    assert tokens(alone) == tokens(company)
    assert all(entry.token_id == entry.top[0].token_id for entry in entries(alone))


async def test_greedy_is_the_same_chunked_cached_or_neither(open_engine: OpenEngine) -> None:
    plain = await open_engine(enable_prefix_caching=False)
    expected = tokens(await run(plain, ask(plain, temperature=0.0)))
    chunked = await open_engine(max_num_seqs=4, max_num_batched_tokens=5)
    assert tokens(await run_in_company(chunked, ask(chunked, temperature=0.0))) == expected
    for _ in range(2):  # the second time from the cache
        deltas = await run(chunked, ask(chunked, temperature=0.0))
        assert tokens(deltas) == expected
    assert deltas[-1].usage.cached_tokens > 0
    assert (await run(plain, ask(plain, temperature=0.0)))[-1].usage.cached_tokens == 0


async def test_a_seed_reproduces_in_any_company_and_other_seeds_differ(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    sampling: dict[str, Any] = {"temperature": 1.5, "max_tokens": 24}
    first = tokens(await run(engine, ask(engine, seed=11, **sampling)))
    assert tokens(await run_in_company(engine, ask(engine, seed=11, **sampling))) == first
    assert tokens(await run(engine, ask(engine, seed=12, **sampling))) != first
    unseeded = [tokens(await run(engine, ask(engine, **sampling))) for _ in range(2)]
    assert unseeded[0] != unseeded[1]


async def test_n_choices_share_a_seed_and_differ(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    deltas = await run(engine, ask(engine, n=4, seed=5, temperature=1.5, max_tokens=24))
    choices = [tuple(tokens(deltas, i)) for i in range(4)]
    assert len(set(choices)) == 4
    single = await run(engine, ask(engine, seed=5, temperature=1.5, max_tokens=24))
    assert tuple(tokens(single)) == choices[0]


@pytest.mark.parametrize("last_n", [None, 5])
async def test_bias_and_penalties_move_the_choice_as_the_reference_says(
    open_engine: OpenEngine, last_n: int | None
) -> None:
    engine = await open_engine()
    vocab_size = engine.tokenizer.vocab_size
    first = tokens(await run(engine, ask(engine, temperature=0.0, max_tokens=1)))[0]
    sampling: dict[str, Any] = {
        "temperature": 0.0,
        "presence_penalty": 1.1,
        "frequency_penalty": 0.7,
        "logit_bias": ((first, -2.5),),
        "penalty_last_n": last_n,
    }
    request = ask(engine, max_tokens=40, logprobs=vocab_size, **sampling)
    deltas = await run(engine, request)
    output: list[int] = []
    for entry in entries(deltas):
        logits = adjusted(entry, request.prompt_token_ids, output, request.sampling)
        assert logits[entry.token_id] == pytest.approx(max(logits.values()), abs=1e-3)
        output.append(entry.token_id)
    assert len(output) == 40
    plain = tokens(await run(engine, ask(engine, temperature=0.0, max_tokens=40)))
    assert plain != output


async def test_a_strong_repetition_penalty_repeats_less(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    plain = tokens(await run(engine, ask(engine, temperature=0.0, max_tokens=60)))
    varied = tokens(await run(engine, ask(engine, temperature=0.0, max_tokens=60, repetition_penalty=50.0)))
    assert len(set(varied)) > len(set(plain))


@pytest.mark.parametrize(("bias", "appears"), [(100.0, True), (-100.0, False)])
async def test_an_extreme_bias_forces_or_bans_a_token(open_engine: OpenEngine, bias: float, appears: bool) -> None:
    engine = await open_engine()
    token_id = tokens(await run(engine, ask(engine, temperature=0.0, max_tokens=1)))[0]
    said = tokens(await run(engine, ask(engine, temperature=1.0, seed=1, logit_bias=((token_id, bias),))))
    assert (set(said) == {token_id}) is appears
    assert (token_id in said) is appears


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.0},
        {"temperature": 0.0, "repetition_penalty": 1.5, "presence_penalty": 1.0},
        {"temperature": 2.0, "seed": 1},
        {"top_k": 50, "top_p": 0.9, "min_p": 0.01, "seed": 1},
        {"typical_p": 0.9, "seed": 1},
    ],
)
async def test_only_allowed_tokens_are_sampled(open_engine: OpenEngine, sampling: dict[str, Any]) -> None:
    engine = await open_engine()
    free = await run(engine, ask(engine, temperature=0.0, max_tokens=1, logprobs=engine.tokenizer.vocab_size))
    unlikely = [entry.token_id for entry in entries(free)[0].top[-3:]]
    deltas = await run_in_company(engine, ask(engine, allowed_token_ids=tuple(unlikely), logprobs=1, **sampling))
    assert len(tokens(deltas)) == 16
    assert set(tokens(deltas)) <= set(unlikely)
    raw, expected = entries(deltas)[0].top[0], entries(free)[0].top[0]
    assert raw.token_id == expected.token_id  # logprobs are of the raw distribution
    assert raw.logprob == pytest.approx(expected.logprob, abs=1e-4)


async def test_typical_tokens_are_those_of_what_is_allowed(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    free = await run(engine, ask(engine, temperature=0.0, max_tokens=1, logprobs=engine.tokenizer.vocab_size))
    chosen = entries(free)[0].top[:7]
    wanted = (0.4, 0.13, 0.12, 0.11, 0.09, 0.08, 0.07)  # of entropy 1.73; -log gives 0.92, 2.04, 2.12, 2.21, 2.41 ...
    bias = tuple((entry.token_id, math.log(p) - entry.logprob) for entry, p in zip(chosen, wanted, strict=True))
    allowed = tuple(entry.token_id for entry in chosen)
    sampling: dict[str, Any] = {"allowed_token_ids": allowed, "logit_bias": bias, "typical_p": 0.35}
    deltas = await run(engine, ask(engine, n=24, max_tokens=1, seed=1, **sampling))
    said = {token_id for delta in deltas for token_id in delta.token_ids}
    assert said == set(allowed[1:4])


async def test_what_is_allowed_is_still_held_back_until_min_tokens(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    eos = min(engine.tokenizer.eos_token_ids)
    forced: dict[str, Any] = {"temperature": 0.0, "logit_bias": ((eos, 100.0),)}
    request = ask(engine, ignore_eos=False, min_tokens=3, allowed_token_ids=(eos, 65), **forced)
    assert tokens(await run(engine, request)) == [65, 65, 65, eos]
    with pytest.raises(InvalidRequestError, match=r"allowed_token_ids.*min_tokens 3"):
        engine.generate(ask(engine, ignore_eos=False, min_tokens=3, allowed_token_ids=(eos,)))
    ignored = ask(engine, ignore_eos=True, min_tokens=3, max_tokens=4, allowed_token_ids=(eos,))
    assert tokens(await run(engine, ignored)) == [eos] * 4


@pytest.mark.parametrize("limit", [{"top_k": 3}, {"top_p": 0.3}, {"min_p": 0.2}, {"typical_p": 0.3}])
async def test_filters_let_only_likely_tokens_through(open_engine: OpenEngine, limit: dict[str, Any]) -> None:
    engine = await open_engine()
    vocab_size = engine.tokenizer.vocab_size
    deltas = await run(engine, ask(engine, seed=2, max_tokens=60, logprobs=vocab_size, **limit))
    for entry in entries(deltas):
        allowed = allowed_tokens(entry, **limit)
        assert entry.token_id in allowed
        assert len(allowed) < vocab_size


def allowed_tokens(
    raw: TokenLogprobs, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0, typical_p: float = 1.0
) -> set[int]:
    """What one filter leaves of a distribution. A little slack where rounding could decide."""
    ranked = [(entry.token_id, math.exp(entry.logprob)) for entry in raw.top]
    if top_k:
        least = ranked[top_k - 1][1] * (1 - 1e-5)
        return {token_id for token_id, p in ranked if p >= least}
    if min_p:
        return {token_id for token_id, p in ranked if p >= min_p * ranked[0][1] * (1 - 1e-5)}
    mass = top_p
    if typical_p < 1.0:
        mass = typical_p
        entropy = -sum(p * math.log(p) for _token_id, p in ranked if p > 0)
        ranked = sorted(ranked, key=lambda item: abs(-math.log(max(item[1], 1e-30)) - entropy))
    allowed, total = set(), 0.0
    for token_id, p in ranked:
        allowed.add(token_id)
        total += p
        if total >= mass + 1e-4:
            break
    return allowed


async def test_samples_follow_the_distribution(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    raw = entries(await run(engine, ask(engine, temperature=0.0, max_tokens=1, logprobs=engine.tokenizer.vocab_size)))[
        0
    ]
    likely = raw.top[:4]
    # Lift four tokens to where they share nearly all of the probability, so that a few hundred draws show it.
    bias = tuple(sorted((entry.token_id, 20.0 - entry.logprob + step) for step, entry in enumerate(likely)))
    draws = 400
    deltas = await run(engine, ask(engine, n=draws // 8, max_tokens=1, seed=100, logit_bias=bias))
    for batch in range(1, 8):
        deltas += await run(engine, ask(engine, n=draws // 8, max_tokens=1, seed=100 + 1000 * batch, logit_bias=bias))
    counts = Counter(token for delta in deltas for token in delta.token_ids)
    weights = {entry.token_id: math.exp(step) for step, entry in enumerate(likely)}
    total = sum(weights.values())
    statistic = sum(
        (counts[token_id] - draws * weight / total) ** 2 / (draws * weight / total)
        for token_id, weight in weights.items()
    )
    assert sum(counts[token_id] for token_id in weights) >= draws - 2
    assert statistic < 16.3  # chi-square with 3 degrees of freedom, p = 0.001; the seeds make it repeatable


async def test_logprobs_are_of_the_raw_distribution(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    plain = entries(await run(engine, ask(engine, temperature=0.0, max_tokens=1, logprobs=engine.tokenizer.vocab_size)))
    assert sum(math.exp(entry.logprob) for entry in plain[0].top) == pytest.approx(1.0, abs=1e-4)
    bent = entries(
        await run(engine, ask(engine, max_tokens=1, logprobs=5, top_k=2, temperature=0.3, presence_penalty=2.0, seed=1))
    )
    assert [entry.token_id for entry in bent[0].top] == [entry.token_id for entry in plain[0].top[:5]]
    for one, other in zip(bent[0].top, plain[0].top, strict=False):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


@pytest.mark.parametrize("count", [0, 1, 7])
async def test_logprobs_come_for_every_token_with_as_many_alternatives_as_asked(
    open_engine: OpenEngine, count: int
) -> None:
    engine = await open_engine()
    deltas = await run(engine, ask(engine, seed=1, logprobs=count))
    assert [entry.token_id for entry in entries(deltas)] == tokens(deltas)
    for entry in entries(deltas):
        assert len(entry.top) == count
        assert entry.logprob <= 0
        values = [item.logprob for item in entry.top]
        assert values == sorted(values, reverse=True)
    assert entries(await run(engine, ask(engine, seed=1))) == []


async def test_prompt_logprobs_agree_with_those_of_the_same_tokens_generated(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    request = ask(engine, temperature=0.0, logprobs=2, max_tokens=12)
    generated = await run(engine, request)
    whole = (*request.prompt_token_ids, *tokens(generated))
    sampling = SamplingParams(max_tokens=1, prompt_logprobs=2)
    limits: dict[str, int]
    for limits in ({}, {"max_num_seqs": 2, "max_num_batched_tokens": 7}):
        other = await open_engine(**limits)
        deltas = await run(other, GenerationRequest(request_id="p", prompt_token_ids=whole, sampling=sampling))
        scored = deltas[0].prompt_logprobs
        assert scored is not None
        assert scored[0] is None
        assert [entry.token_id for entry in scored[1:] if entry] == list(whole[1:])
        tail = [entry for entry in scored[len(request.prompt_token_ids) :] if entry]
        for entry, expected in zip(tail, entries(generated), strict=True):
            assert entry.logprob == pytest.approx(expected.logprob, abs=2e-2)


async def test_eos_ends_a_reply_but_not_before_min_tokens_and_not_when_ignored(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    eos = min(engine.tokenizer.eos_token_ids)
    forced: dict[str, Any] = {
        "temperature": 0.0,
        "logit_bias": tuple((token_id, 100.0) for token_id in sorted(engine.tokenizer.eos_token_ids)),
    }
    at_once = await run(engine, ask(engine, ignore_eos=False, **forced))
    assert len(tokens(at_once)) == 1
    assert at_once[-1].finish_reason is FinishReason.STOP
    assert "".join(delta.text for delta in at_once) == ""
    later = await run(engine, ask(engine, ignore_eos=False, min_tokens=5, **forced))
    assert len(tokens(later)) == 6
    assert not engine.tokenizer.eos_token_ids & set(tokens(later)[:5])
    ignored = await run(engine, ask(engine, ignore_eos=True, max_tokens=7, **forced))
    assert set(tokens(ignored)) <= engine.tokenizer.eos_token_ids
    assert len(tokens(ignored)) == 7
    assert eos in engine.tokenizer.eos_token_ids


async def test_a_stop_token_is_held_back_until_min_tokens(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    said = tokens(await run(engine, ask(engine, temperature=0.0)))
    stopped = await run(engine, ask(engine, temperature=0.0, stop_token_ids=(said[3],)))
    cut = said.index(said[3]) + 1
    assert tokens(stopped) == said[:cut]
    assert (stopped[-1].finish_reason, stopped[-1].stop_reason) == (FinishReason.STOP, said[3])
    held = await run(engine, ask(engine, temperature=0.0, stop_token_ids=(said[0],), min_tokens=4, max_tokens=6))
    assert said[0] not in tokens(held)[:4]


async def test_a_stop_string_cuts_the_text_and_the_pieces_join_to_it(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    free = "".join(delta.text for delta in await run(engine, ask(engine, temperature=0.0, max_tokens=40)))
    stop = free[5:8]
    deltas = await run(engine, ask(engine, temperature=0.0, max_tokens=40, stop=(stop,)))
    assert "".join(delta.text for delta in deltas) == free[: free.index(stop)]
    assert deltas[-1].stop_reason == stop
    kept = await run(engine, ask(engine, temperature=0.0, max_tokens=40, stop=(stop,), include_stop_str_in_output=True))
    assert "".join(delta.text for delta in kept) == free[: free.index(stop) + len(stop)]


async def test_usage_counts_exactly(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    request = ask(engine, seed=1, max_tokens=9)
    deltas = await run(engine, request)
    assert [delta.usage.completion_tokens for delta in deltas if delta.token_ids] == list(range(1, 10))
    assert deltas[-1].usage.prompt_tokens == len(request.prompt_token_ids)
    assert deltas[-1].finish_reason is FinishReason.LENGTH
    timings = deltas[-1].timings
    assert timings is not None
    assert min(timings) >= 0


async def test_many_more_requests_than_seats_all_end_and_nothing_is_left(open_engine: OpenEngine) -> None:
    engine = await open_engine(max_num_seqs=3, max_num_batched_tokens=32)
    requests = [ask(engine, OTHERS[i % 4] + str(i), temperature=0.0, max_tokens=1 + i % 13) for i in range(30)]
    answers = await asyncio.gather(*(run(engine, request) for request in requests))
    assert [len(tokens(deltas)) for deltas in answers] == [1 + i % 13 for i in range(30)]
    alone = await open_engine(max_num_seqs=1, max_num_batched_tokens=256, enable_prefix_caching=False)
    for request, deltas in list(zip(requests, answers, strict=True))[::7]:
        assert tokens(await run(alone, request)) == tokens(deltas)
    stats = engine.stats()
    assert stats.num_running == stats.num_waiting == stats.kv.used_tokens == 0
