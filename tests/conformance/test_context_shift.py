"""One semantics for outputs that outgrow their context, whatever runs the model.

The oracle is the model itself: after a shift it goes on as it would from a prompt of just the tokens that are left.
"""

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest

from conformance.conftest import OpenEngine
from conformance.test_semantics import OTHERS, adjusted, entries, run, run_in_company, tokens
from conformance.test_semantics import ask as ask_without
from pagemill.engine.engine import Engine
from pagemill.generation import ContextShift, FinishReason, GenerationRequest
from pagemill.prompts.structured_output.compiler import GrammarCompiler
from pagemill.prompts.structured_output.formats import Regex

CONTEXT = 48
PROMPT = "Once upon a time there was a mill"
NUM_KEEP = 6


def ask(engine: Engine, prompt: str = PROMPT, **sampling: Any) -> GenerationRequest:
    request = ask_without(engine, prompt, **{"temperature": 0.0, "max_tokens": 150, **sampling})
    return replace(request, shift=ContextShift(NUM_KEEP, CONTEXT))


def contexts(prompt: tuple[int, ...], output: list[int]) -> list[tuple[list[int], list[int]]]:
    """What the model went on from after each shift, and what it said until the next."""
    found: list[tuple[list[int], list[int]]] = []
    context = list(prompt)
    for token_id in output:
        if len(context) == CONTEXT:
            rest = context[NUM_KEEP:]
            context = context[:NUM_KEEP] + rest[len(rest) // 2 :]
            found.append((list(context), []))
        context.append(token_id)
        if found:
            found[-1][1].append(token_id)
    return found


async def test_after_a_shift_it_goes_on_as_from_a_prompt_of_the_tokens_left(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    request = ask(engine)
    output = tokens(await run(engine, request))
    fresh = await open_engine(enable_prefix_caching=False)
    shifts = contexts(request.prompt_token_ids, output)
    assert engine.stats().num_shifts == len(shifts) >= 5
    for left, said in shifts:
        sampling = replace(request.sampling, max_tokens=len(said))
        again = replace(request, prompt_token_ids=tuple(left), sampling=sampling, shift=None)
        assert tokens(await run(fresh, again)) == said
    assert fresh.stats().num_shifts == 0


async def test_what_is_said_is_the_same_chunked_cached_in_company_or_alone(open_engine: OpenEngine) -> None:
    plain = await open_engine(enable_prefix_caching=False)
    expected = tokens(await run(plain, ask(plain)))
    chunked = await open_engine(max_num_seqs=4, max_num_batched_tokens=5)
    assert tokens(await run_in_company(chunked, ask(chunked))) == expected
    assert tokens(await run(chunked, ask(chunked))) == expected


async def test_a_seed_goes_on_across_shifts_and_every_token_counts(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    request = ask(engine, temperature=1.5, seed=11, logprobs=2, prompt_logprobs=1)
    first = await run(engine, request)
    assert tokens(await run_in_company(engine, request)) == tokens(first)
    assert [delta.usage.completion_tokens for delta in first] == list(range(1, 151))
    assert first[-1].finish_reason is FinishReason.LENGTH
    assert [entry.token_id for entry in entries(first)] == tokens(first)
    scored = [delta.prompt_logprobs for delta in first if delta.prompt_logprobs is not None]
    assert [len(logprobs) for logprobs in scored] == [len(request.prompt_token_ids)]


@pytest.mark.parametrize("last_n", [None, 60])
async def test_penalties_look_back_on_what_was_dropped(open_engine: OpenEngine, last_n: int | None) -> None:
    engine = await open_engine()
    penalties: dict[str, Any] = {"presence_penalty": 1.1, "frequency_penalty": 0.7, "penalty_last_n": last_n}
    request = ask(engine, logprobs=engine.tokenizer.vocab_size, max_tokens=110, **penalties)
    output: list[int] = []
    for entry in entries(await run(engine, request)):
        logits = adjusted(entry, request.prompt_token_ids, output, request.sampling)
        assert logits[entry.token_id] == pytest.approx(max(logits.values()), abs=1e-3)
        output.append(entry.token_id)
    assert len(output) == 110
    assert engine.stats().num_shifts >= 3


async def test_a_format_holds_across_shifts(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    compiler = GrammarCompiler(engine.tokenizer, max_source_bytes=10_000, cache_size=1)
    constraint = compiler.compile(Regex("([a-f]{3}-){40}", "format"))
    request = replace(ask(engine, temperature=1.0, seed=1, max_tokens=400, ignore_eos=False), constraint=constraint)
    deltas = await run(engine, request)
    assert re.fullmatch("([a-f]{3}-){40}", "".join(delta.text for delta in deltas))
    assert deltas[-1].finish_reason is FinishReason.STOP
    assert engine.stats().num_shifts > 0


async def test_many_that_shift_say_what_each_says_alone_and_nothing_is_left(open_engine: OpenEngine) -> None:
    engine = await open_engine(max_num_seqs=3, max_num_batched_tokens=32)
    requests = [ask(engine, OTHERS[i % 3] + str(i), max_tokens=60 + 7 * i) for i in range(8)]
    answers = await asyncio.gather(*(run(engine, request) for request in requests))
    assert [len(tokens(deltas)) for deltas in answers] == [60 + 7 * i for i in range(8)]
    stats = engine.stats()
    assert stats.num_shifts >= 8
    assert stats.num_running == stats.num_waiting == stats.kv.used_tokens == 0
    alone = await open_engine(max_num_seqs=1, enable_prefix_caching=False)
    for request, deltas in list(zip(requests, answers, strict=True))[::4]:
        assert tokens(await run(alone, request)) == tokens(deltas)
