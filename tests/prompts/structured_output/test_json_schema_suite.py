"""Grammars of JSON schemas, over the cases of the public JSON-Schema-Test-Suite."""

import json

import pytest

from pagemill.prompts.structured_output.matcher import CompiledGrammar
from support.json_schema_suite import Group, groups, supported
from support.outputs import accepts, byte_compiler, random_output

NUM_SUPPORTED = 191
SEEDS = range(8)
# Rust's \s, and so \S, does not count U+FEFF to white space, as JavaScript does.
ACCEPTED_THOUGH_INVALID = ("optional/ecmascript-regex: ECMA 262 \\S matches everything but whitespace", '"\\ufeff"')


@pytest.fixture(scope="module")
def cases() -> list[tuple[Group, CompiledGrammar]]:
    return list(supported(byte_compiler()))


def test_of_the_suite_so_many_schemas_are_supported_the_others_refused(
    cases: list[tuple[Group, CompiledGrammar]],
) -> None:
    assert len(cases) == NUM_SUPPORTED
    assert len(list(groups())) == 412


def test_no_invalid_value_of_the_suite_is_an_output(cases: list[tuple[Group, CompiledGrammar]]) -> None:
    accepted = {
        (group.name, json.dumps(value))
        for group, grammar in cases
        for value in group.invalid
        for separators in ((", ", ": "), (",", ":"))
        if accepts(grammar, json.dumps(value, ensure_ascii=False, separators=separators), parse_special=False)
    }
    assert accepted == {ACCEPTED_THOUGH_INVALID}


def test_most_valid_values_of_the_suite_are_outputs(cases: list[tuple[Group, CompiledGrammar]]) -> None:
    """Not all: members come in the schema's order, formats are asserted, and 1.0 is written 1."""
    valid = [(grammar, value) for group, grammar in cases for value in group.valid]
    texts = [(grammar, json.dumps(value, ensure_ascii=False, separators=(",", ":"))) for grammar, value in valid]
    refused = [text for grammar, text in texts if not accepts(grammar, text, parse_special=False)]
    assert len(refused) < 0.1 * len(texts)


def test_whatever_is_said_along_a_grammar_is_valid(cases: list[tuple[Group, CompiledGrammar]]) -> None:
    num_outputs = 0
    for group, grammar in cases:
        for seed in SEEDS:
            output = random_output(grammar, seed)
            if output is not None:
                num_outputs += 1
                assert group.is_valid(json.loads(output)), (group.name, output)
    assert num_outputs > 0.9 * len(cases) * len(SEEDS)
