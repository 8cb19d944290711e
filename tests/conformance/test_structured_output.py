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
