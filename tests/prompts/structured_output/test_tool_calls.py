"""Random walks through the grammars of tool calls: whatever they allow is read as calls that the schemas allow."""

import json
import random
from collections.abc import Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pagemill.backends.base import decode
from pagemill.backends.fake import EOS, FakeTokenizer
from pagemill.errors import InvalidRequestError
from pagemill.generation import TokenConstraint
from pagemill.prompts.message_events import Content, Event, Reasoning, ToolCallArguments, ToolCallStart
from pagemill.prompts.message_format import MessageFormat
from pagemill.prompts.structured_output.answers import within_answer
from pagemill.prompts.structured_output.compiler import GrammarCompiler
from pagemill.prompts.structured_output.formats import Format, JSONSchema
from pagemill.prompts.structured_output.tool_calls import arguments_schema, call_or_content, calls_only, text_or_calls
from pagemill.prompts.tools import HELD_FORMATS, TOOL_FORMATS, tool_format
from support.answer_events import joined

SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 6}, "unit": {"enum": ["C", "F"]}},
        "required": ["city"],
    },
    "set_timer": {"properties": {"minutes": {"$ref": "#/$defs/count"}}, "$defs": {"count": {"enum": [1, 2, 30]}}},
    "now": {},
}
NAMED = [(name, arguments_schema(schema, name)) for name, schema in SCHEMAS.items()]
COMPILER = GrammarCompiler(FakeTokenizer(), max_source_bytes=100_000, cache_size=100)
FORCEABLE = [*sorted(set(TOOL_FORMATS) - set(HELD_FORMATS)), "openai"]
TRIGGERED = sorted(name for name in TOOL_FORMATS if name not in HELD_FORMATS and name != "llama3_json")


def walk(wanted: Format | None, seed: int, prefix: str = "") -> str:
    """A text that the format allows, after `prefix`, which it must allow; of many tokens one is taken at random."""
    assert wanted is not None
    constraint: TokenConstraint = COMPILER.compile(wanted)
    matcher, source, output = constraint.matcher(), random.Random(seed), list(prefix.encode())
    for token_id in output:
        matcher.advance(token_id)
    while len(output) < 3000:
        bits = matcher.allowed()
        allowed = [token_id for token_id in range(FakeTokenizer.vocab_size) if bits[token_id // 8] >> token_id % 8 & 1]
        if EOS in allowed and source.random() < 0.5:
            return decode(FakeTokenizer(), output)
        token_id = source.choice([token_id for token_id in allowed if token_id != EOS] or allowed)
        if token_id == EOS:
            return decode(FakeTokenizer(), output)
        matcher.advance(token_id)
        output.append(token_id)
    raise AssertionError(f"a walk without an end: {decode(FakeTokenizer(), output)[:300]}")


def read(chosen: MessageFormat, text: str, *, prompt: str = "") -> list[Event]:
    parser = chosen.parser(SCHEMAS, prompt=prompt)
    assert parser is not None
    return joined(parser.feed(text) + parser.finish())


def check_calls(events: list[Event]) -> int:
    """The number of calls, which are all of the events."""
    for start, arguments in zip(events[::2], events[1::2], strict=True):
        assert isinstance(start, ToolCallStart)
        assert isinstance(arguments, ToolCallArguments)
        value = json.loads(arguments.text)
        Draft202012Validator({"type": "object", **SCHEMAS[start.name]}).validate(value)
        assert set(value) <= set(SCHEMAS[start.name].get("properties", ()))
    return len(events) // 2


@pytest.mark.parametrize("name", FORCEABLE)
@pytest.mark.parametrize("maximum", [1, 2, None])
def test_forced_calls_are_read_as_what_the_schemas_allow(name: str, maximum: int | None) -> None:
    chosen = MessageFormat(name, None)
    wanted = within_answer(chosen, None, calls_only(chosen, NAMED, maximum=maximum), prompt="")
    counts = set()
    for seed in range(12):
        text = walk(wanted, seed, "<|channel|>commentary" if name == "openai" else "")
        counts.add(check_calls(read(chosen, text)))
    assert min(counts) == 1
    if name != "openai":  # which ends its answer with a call
        assert (max(counts) > 1) == (maximum != 1)


@pytest.mark.parametrize("name", sorted(HELD_FORMATS))
def test_formats_without_json_are_forced_in_another_one(name: str) -> None:
    chosen = MessageFormat(name, None).of_held_calls
    assert chosen.tools in FORCEABLE
    assert check_calls(read(chosen, walk(calls_only(chosen, NAMED, maximum=1), 0))) == 1


@pytest.mark.parametrize("name", TRIGGERED)
def test_free_text_may_turn_into_calls_that_the_schemas_allow(name: str) -> None:
    chosen = MessageFormat(name, None)
    wanted = text_or_calls(chosen, NAMED, maximum=None)
    trigger = tool_format(name).TRIGGER
    for seed in range(6):
        first, *calls = read(chosen, walk(wanted, seed, f"I look. {trigger}"))
        assert first == Content("I look.")
        assert check_calls(calls) > 0
        free = walk(wanted, seed, "Hi")
        assert all(isinstance(event, Content) for event in read(chosen, free))


@pytest.mark.parametrize("name", ["llama3_json", "qwen3_coder", "glm45", "pythonic", "openai"])
def test_where_nothing_tells_a_calls_beginning_free_text_stays_free(name: str) -> None:
    assert text_or_calls(MessageFormat(name, None), NAMED, maximum=None) is None


def test_calls_are_forced_after_the_reasoning() -> None:
    chosen = MessageFormat("hermes", "think")
    for prompt, prefix in (("<think>\n", "Hm.</think>\n"), ("assistant\n", "<think>Hm.</think>\n")):
        wanted = within_answer(chosen, None, calls_only(chosen, NAMED, maximum=1), prompt=prompt)
        first, *calls = read(chosen, walk(wanted, 1, prefix), prompt=prompt)
        assert first == Reasoning("Hm.")
        assert check_calls(calls) == 1


def test_content_in_a_format_or_calls_are_both_possible() -> None:
    chosen = MessageFormat("hermes", None)
    content = JSONSchema('{"enum": [1, 2]}', "format")
    wanted = within_answer(chosen, content, calls_only(chosen, NAMED, maximum=1), prompt="")
    assert walk(wanted, 0, "1") == "1"
    assert check_calls(read(chosen, walk(wanted, 0, "<tool_call>"))) == 1


@pytest.mark.parametrize("name", ["llama3_json", "pythonic"])
def test_content_in_json_and_calls_without_a_mark_are_both_possible(name: str) -> None:
    chosen = MessageFormat(name, None).of_held_calls
    content = JSONSchema(
        '{"type": "object", "properties": {"b": {"enum": [1]}}, "additionalProperties": false}', "format"
    )
    wanted = within_answer(chosen, content, call_or_content(chosen, NAMED, maximum=1), prompt="")
    assert json.loads(walk(wanted, 0, '{"b": 1}')) == {"b": 1}
    for tool in SCHEMAS:
        assert check_calls(read(chosen, walk(wanted, 0, f'{{"name": "{tool}", "parameters": {{'))) == 1


def test_a_schema_that_says_more_elsewhere_is_left_open() -> None:
    schema = json.loads(arguments_schema({"anyOf": [{"required": ["a"]}]}, "f").source)
    assert "additionalProperties" not in schema
    assert json.loads(arguments_schema({"additionalProperties": True}, "f").source)["additionalProperties"] is True


def test_a_wrong_schema_is_named_by_its_place() -> None:
    wrong = arguments_schema({"properties": {"a": {"type": "nothing"}}}, "tools[0].function.parameters")
    with pytest.raises(InvalidRequestError, match=r"tools\[0\]\.function\.parameters"):
        COMPILER.compile(calls_only(MessageFormat("hermes", None), [("f", wrong)], maximum=1))
