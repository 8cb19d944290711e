"""One semantics for outputs that are held to a format, whatever runs the model.

The models are random and sample at temperature 1, so nothing but the masks makes an output right.
"""

import asyncio
import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from conformance.conftest import OpenEngine
from conformance.test_semantics import run, tokens
from pagemill.engine.engine import Engine
from pagemill.errors import InvalidRequestError
from pagemill.generation import Delta, FinishReason, GenerationRequest, SamplingParams
from pagemill.prompts.structured_output.compiler import GrammarCompiler
from pagemill.prompts.structured_output.formats import (
    Concat,
    Format,
    Grammar,
    JSONSchema,
    OneOf,
    Regex,
    Repeat,
    Text,
    Until,
)

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "colours": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
    },
    "required": ["name", "age", "colours"],
    "additionalProperties": False,
}
PERSON_FORMAT = JSONSchema.of(PERSON, "format")


def ask(engine: Engine, wanted: Format, *, n: int = 1, prompt: str = "Say", **sampling: Any) -> GenerationRequest:
    compiler = GrammarCompiler(engine.tokenizer, max_source_bytes=10_000, cache_size=8)
    return GenerationRequest(
        request_id="r",
        prompt_token_ids=tuple(engine.tokenizer.encode(prompt, add_special=False, parse_special=False)),
        n=n,
        sampling=SamplingParams(**{"max_tokens": 200, "seed": 1, **sampling}),
        constraint=compiler.compile(wanted),
    )


def text(deltas: list[Delta], choice_index: int = 0) -> str:
    return "".join(delta.text for delta in deltas if delta.choice_index == choice_index)


def finish(deltas: list[Delta], choice_index: int = 0) -> FinishReason | None:
    return [delta.finish_reason for delta in deltas if delta.choice_index == choice_index][-1]


def is_person(output: str) -> bool:
    return Draft202012Validator(PERSON).is_valid(json.loads(output))


KINDS: dict[str, tuple[Format, str]] = {
    "regex": (Regex(r"\d{3}-[a-f]+/?", "format"), r"\d{3}-[a-f]+/?"),
    "choice": (OneOf((Text("yes"), Text("no"), Text("maybe"))), "yes|no|maybe"),
    "lark": (Grammar('start: "a" b+\nb: "x" | "y"', "format"), "a[xy]+"),
    "gbnf": (Grammar('root ::= "a" [0-9]+ ("x" | "y")?', "format"), "a[0-9]+[xy]?"),
    "calls": (
        Repeat(Concat((Text("<call>"), Regex("[0-9]{2}", "format"), Text("</call>"))), 1, 2),
        "(<call>[0-9]{2}</call>){1,2}",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_an_output_is_what_its_format_says(open_engine: OpenEngine, kind: str) -> None:
    engine = await open_engine()
    wanted, pattern = KINDS[kind]
    deltas = await run(engine, ask(engine, wanted, n=8))
    outputs = {text(deltas, index) for index in range(8) if finish(deltas, index) is FinishReason.STOP}
    assert outputs
    assert all(re.fullmatch(pattern, output) for output in outputs), outputs


@pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 0.0}, {"top_k": 40, "top_p": 0.9}, {"typical_p": 0.8}, {"min_p": 0.1}]
)
async def test_json_follows_its_schema_however_tokens_are_chosen(
    open_engine: OpenEngine, sampling: dict[str, Any]
) -> None:
    engine = await open_engine()
    deltas = await run(engine, ask(engine, PERSON_FORMAT, n=4, **sampling))
    assert [finish(deltas, index) for index in range(4)] == [FinishReason.STOP] * 4
    assert all(is_person(text(deltas, index)) for index in range(4))


async def test_each_of_n_choices_follows_its_own_way(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    deltas = await run(engine, ask(engine, PERSON_FORMAT, n=4, temperature=1.5))
    said = [tuple(tokens(deltas, index)) for index in range(4)]
    assert len(set(said)) == 4
    assert tuple(tokens(await run(engine, ask(engine, PERSON_FORMAT, temperature=1.5)))) == said[0]


async def test_strangers_in_the_batch_change_nothing(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    request = ask(engine, PERSON_FORMAT, seed=9)
    alone = tokens(await run(engine, request))
    free = [free_request(engine, f"stranger {index}", max_tokens=30 + index) for index in range(3)]
    company = [*free, ask(engine, KINDS["gbnf"][0], seed=2)]
    *_, deltas = await asyncio.gather(*(run(engine, other) for other in company), run(engine, request))
    assert tokens(deltas) == alone
    assert is_person(text(deltas))


async def test_outputs_keep_their_formats_when_they_wait_and_prompts_come_in_chunks(open_engine: OpenEngine) -> None:
    crowded = await open_engine(max_num_seqs=3, max_num_batched_tokens=16)
    prompts = [f"{index}: " + "say something long " * 4 for index in range(9)]
    requests = [ask(crowded, PERSON_FORMAT, prompt=prompt, seed=index) for index, prompt in enumerate(prompts)]
    for deltas in await asyncio.gather(*(run(crowded, request) for request in requests)):
        assert finish(deltas) is FinishReason.STOP
        assert is_person(text(deltas))


async def test_cut_off_by_max_tokens_it_is_a_beginning(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    whole = await run(engine, ask(engine, PERSON_FORMAT))
    cut = await run(engine, ask(engine, PERSON_FORMAT, max_tokens=10))
    assert (finish(cut), len(tokens(cut))) == (FinishReason.LENGTH, 10)
    assert tokens(cut) == tokens(whole)[:10]


async def test_what_is_complete_ends_without_another_token(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    for sampling in ({}, {"ignore_eos": True}, {"max_tokens": 3}, {"min_tokens": 50}):
        deltas = await run(engine, ask(engine, Text("abc"), **sampling))
        assert (text(deltas), finish(deltas)) == ("abc", FinishReason.STOP)
        assert engine.tokenizer.eos_token_ids.isdisjoint(tokens(deltas))
    assert deltas[-1].stop_reason is None


async def test_only_where_it_may_end_a_reply_ends(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    eos, other = min(engine.tokenizer.eos_token_ids), ord("!")
    digits = Regex("[0-9]{3,}", "format")
    love: dict[str, Any] = {"logit_bias": ((eos, 100.0), (other, 90.0)), "max_tokens": 9, "temperature": 0.0}
    assert len(tokens(await run(engine, ask(engine, digits, **love)))) == 4
    held_back = await run(engine, ask(engine, digits, min_tokens=6, **love))
    assert (len(tokens(held_back)), finish(held_back)) == (7, FinishReason.STOP)
    endless = await run(engine, ask(engine, digits, ignore_eos=True, **love))
    assert (len(tokens(endless)), finish(endless)) == (9, FinishReason.LENGTH)
    stopped = await run(engine, ask(engine, digits, ignore_eos=True, stop_token_ids=(other,), **love))
    assert (len(text(stopped)), stopped[-1].stop_reason) == (3, other)


async def test_a_stop_string_still_stops(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    deltas = await run(engine, ask(engine, PERSON_FORMAT, stop=('"age"',)))
    assert (finish(deltas), deltas[-1].stop_reason) == (FinishReason.STOP, '"age"')
    assert text(deltas).rstrip().endswith(",")


async def test_bias_and_penalties_choose_among_what_is_allowed(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    digits = Regex("[0-9]{20}", "format")
    seven = await run(engine, ask(engine, digits, logit_bias=((ord("7"), 50.0), (ord("x"), 100.0)), temperature=0.0))
    assert text(seven) == "7" * 20
    varied = await run(engine, ask(engine, digits, temperature=0.0, repetition_penalty=50.0, presence_penalty=2.0))
    assert re.fullmatch("[0-9]{20}", text(varied))
    assert len(set(text(varied))) > 3


async def test_allowed_tokens_and_the_format_hold_both(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    digits = Regex("[0-9]{4}", "format")
    deltas = await run(engine, ask(engine, digits, allowed_token_ids=(ord("1"), ord("2"), ord("x"))))
    assert re.fullmatch("[12]{4}", text(deltas))
    with pytest.raises(InvalidRequestError, match="allowed_token_ids has no token"):
        engine.generate(ask(engine, digits, allowed_token_ids=(ord("x"),)))
    stuck = await run(engine, ask(engine, Text("1x"), allowed_token_ids=(ord("1"),)))
    assert finish(stuck) is FinishReason.ERROR
    assert "no token" in (stuck[-1].error or "")
    assert text(await run(engine, ask(engine, Text("ok")))) == "ok"


async def test_logprobs_are_of_the_raw_distribution(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    vocab_size = engine.tokenizer.vocab_size
    held = await run(engine, ask(engine, Text("a"), logprobs=vocab_size))
    free = await run(engine, free_request(engine, "Say", max_tokens=1, logprobs=vocab_size))
    entry, raw = held[0].logprobs[0], {item.token_id: item.logprob for item in free[0].logprobs[0].top}
    assert entry.token_id == ord("a")
    assert entry.logprob == pytest.approx(raw[ord("a")], abs=1e-4)


async def test_a_format_holds_after_a_mark(open_engine: OpenEngine) -> None:
    engine = await open_engine()
    wanted = Concat((Until(("</think>",)), Regex("[0-9]{3}", "format")))
    deltas = await run(engine, ask(engine, wanted, logit_bias=tuple((byte, 20.0) for byte in b"</think>")))
    thought, mark, answer = text(deltas).partition("</think>")
    if finish(deltas) is FinishReason.STOP:
        assert mark
        assert re.fullmatch("[0-9]{3}", answer)
    else:
        assert not mark
        assert len(thought) > 10


def free_request(engine: Engine, prompt: str, **sampling: Any) -> GenerationRequest:
    token_ids = engine.tokenizer.encode(prompt, add_special=False, parse_special=False)
    params = SamplingParams(**{"seed": 1, "ignore_eos": True, **sampling})
    return GenerationRequest(request_id="free", prompt_token_ids=tuple(token_ids), sampling=params)
