"""Compiled formats: which outputs each part allows, what is refused and how, what is kept."""

import json
from collections.abc import Sequence

import pytest

from pagemill.errors import InvalidRequestError, StructuredOutputError, UnsupportedParameterError
from pagemill.prompts.structured_output.compiler import GrammarCompiler
from pagemill.prompts.structured_output.formats import (
    AnyText,
    Choice,
    Concat,
    Format,
    Grammar,
    JSONSchema,
    OneOf,
    Regex,
    Repeat,
    Text,
    Until,
    optional,
)
from pagemill.settings import Settings
from support.outputs import accepts, allowed, byte_compiler, num_accepted, random_output

AB = Regex("[ab]", "f")
CASES: list[tuple[Format, Sequence[str], Sequence[str]]] = [
    (Text('a"\\\n/é\x01'), ['a"\\\n/é\x01'], ["", 'a"\\\n/e\x01']),
    (Text("a<|im_start|>b"), ["a<|im_start|>b"], ["ab"]),
    (Choice(("yes", "yes!", 'n"o'), "f"), ["yes", "yes!", 'n"o'], ["y", "no"]),
    (Regex(r"a/\d+\s?|x", "f"), ["a/12", "a/1 ", "x"], ["a/", "a/1x", "a/٣", " x"]),
    (Regex("^a$", "f"), ["a"], ["^a$"]),
    (Grammar('start: "a" b+\nb: "x" | "y" "!"', "f"), ["ax", "axy!x"], ["a", "ay"]),
    (Grammar('root ::= "a" digit{2,3}\ndigit ::= [0-9]', "f"), ["a12", "a123"], ["a1", "a1234"]),
    (OneOf((Text("a"), AB, Text("cd"))), ["a", "b", "cd"], ["c", "ab"]),
    (Concat((Text("<"), AB, Text(">"))), ["<a>"], ["<>", "<a"]),
    (Repeat(AB, 2, 3), ["ab", "aaa"], ["a", "abab"]),
    (Concat((Repeat(AB, 0, 2, Text(", ")), Text("."))), [".", "a.", "a, b."], ["a, .", "a, b, a."]),
    (Repeat(AB, 2, None, Text(",")), ["a,b", "a,b,a,b"], ["a", "a,"]),
    (Concat((optional(Text("-")), AB)), ["a", "-b"], ["--a"]),
    (Concat((Until(("</t>", "|")), AB)), ["x<y </t>a", "|b", "é|a"], ["x</t>", "a", "x</t>|a"]),
    (Concat((Until(("<|im_start|>",)), AB)), ["xy<|im_start|>a", "<|im_start|>b"], ["xya"]),
    (Concat((Until(("<|im_start|>", "</t>")), AB)), ["x<|im_start|>a", "x</t>a"], ["xa"]),
    (AnyText(), ["", "any thing\n"], ["<|im_start|>"]),
    (Concat((AB, AnyText("<c>"))), ["a", "ax < c> "], ["a<c>", "ax<c>", ""]),
    (
        Concat((Text("<"), Grammar('start: "a" p0\np0: "b"', "f"), JSONSchema("{}", "f"))),
        ["<ab1", '<ab{"p0":[]}'],
        ["<a"],
    ),
]


@pytest.mark.parametrize(("wanted", "outputs", "others"), CASES, ids=lambda value: type(value).__name__)
def test_a_format_allows_its_outputs_and_no_others(
    wanted: Format, outputs: Sequence[str], others: Sequence[str]
) -> None:
    grammar = byte_compiler().compile(wanted)
    assert [text for text in outputs if not accepts(grammar, text)] == []
    assert [text for text in others if accepts(grammar, text)] == []


def test_names_of_special_tokens_in_a_choice_are_plain_text() -> None:
    grammar = byte_compiler().compile(Choice(("<|im_start|>",), "f"))
    assert accepts(grammar, "<|im_start|>", parse_special=False)
    assert not accepts(grammar, "<|im_start|>", parse_special=True)


def test_white_space_in_json_is_never_endless() -> None:
    grammar = byte_compiler().compile(JSONSchema('{"type": "object"}', "f"))
    assert accepts(grammar, '{ "a" :\n' + " " * 20 + "[1 ,2 ] }")
    for text in ("{  ", "{\n\n", '{"a":\n' + " " * 21, " ", "{}\n"):
        assert num_accepted(grammar, text) == len(text) - 1
    compact = byte_compiler().compile(JSONSchema('{"type": "object"}', "f", compact=True))
    assert accepts(compact, '{"a":[1,2]}')
    assert num_accepted(compact, '{ "a') == 1


def test_an_output_is_utf8_and_special_tokens_are_no_text() -> None:
    grammar = byte_compiler().compile(JSONSchema('{"type": "string"}', "f"))
    assert accepts(grammar, '"é\U0001f600"')
    assert num_accepted(grammar, '"<|im_end|>') == 1
    matcher = grammar.matcher()
    matcher.advance(ord('"'))
    assert not matcher.allowed()[0xFF >> 3] >> (0xFF & 7) & 1  # no UTF-8 text has it


WRONG_SCHEMAS = [
    ('{"type": "thing"}', "f: Invalid type: thing"),
    ('{"properties": {"a/b": {"items": {"type": "x"}}}}', "f at /properties/a~1b/items: Invalid type: x"),
    ('{"$ref": "#/$defs/x", "$defs": {"x": {"anyOf": [{}, {"type": 5}]}}}', "f at /$defs/x/anyOf/1: "),
    ('{"properties": {"a": {"$ref": "#/$defs/x"}}}', "f at /properties/a: Pointer '/$defs/x' does not exist"),
    ('{"properties": {"a": {"pattern": "("}}}', "f at /properties/a: regex parse error"),
    ('{"properties": {"a": {"not": {}, "if": {}}}}', "f at /properties/a: if, not are not supported"),
    ('{"items": {"uniqueItems": true}}', "f at /items: uniqueItems is not supported"),
    ('{"properties": {"a": {"format": "zip"}}}', "f at /properties/a: Unknown format: zip"),
    ('{"oneOf": [{"minLength": 2}, {"maxLength": 3}]}', "f: oneOf is not supported unless"),
    ('{"allOf": [{"minProperties": 2}]}', "f at /allOf/0: minProperties 2 is not supported"),
    ('{"patternProperties": 5, "required": 5, "$defs": [], "allOf": {}}', "f: "),
    ('{"x-guidance": {"lenient": true}}', "f: x-guidance is not supported"),
    (
        json.dumps({"patternProperties": {f"^{index}$": {} for index in range(101)}}),
        "f: more than 100 patternProperties are not supported",
    ),
    ('{"const": 123456789012345678901}', "f: it is not valid JSON: integers of more than 64 bits are not supported"),
    ('{"type": "integer", "minimum": 3, "maximum": 2}', "f: Unsatisfiable schema"),
    ('{"a": NaN}', "f: it is not valid JSON: there is no NaN"),
    ('{"a": ', "f: it is not valid JSON: Expecting value"),
    ("[" * 50_000, "f: it is "),
    ("[1]", "f: a schema must be an object, got [1]"),
    ("false", "f: a schema must be an object, got false"),
]


@pytest.mark.parametrize(("schema", "message"), WRONG_SCHEMAS)
def test_a_wrong_schema_is_refused_with_the_place(schema: str, message: str) -> None:
    wanted = Concat((Until(("</think>",)), JSONSchema('{"type": "object"}', "other"), JSONSchema(schema, "f")))
    with pytest.raises(InvalidRequestError) as caught:
        byte_compiler().compile(wanted)
    assert caught.value.message.startswith(message)
    assert caught.value.param == "f"
    assert isinstance(caught.value, UnsupportedParameterError) is ("not supported" in message)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Regex("((", "f"), 'f: invalid regex "((" (in regex): regex parse error'),
        (Regex("a(?=b)", "f"), "look-around, including look-ahead and look-behind, is not supported"),
        (Regex("", "f"), "f: the model has no tokens for any output but an empty one"),
        (Choice(("",), "f"), "f: the model has no tokens for any output but an empty one"),
        (Grammar('start: "a" foo', "f"), 'f: at 1(8): unknown name: "foo"'),
        (Grammar('root ::= "a" [0-9', "f"), "f: Unexpected end of input at line 1"),
        (Grammar("root ::= foo", "f"), "f: Rule 'foo' not found"),
        (Grammar("", "f"), "f: "),
    ],
)
def test_a_wrong_pattern_or_grammar_is_refused(wanted: Format, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        byte_compiler().compile(wanted)
    assert message in caught.value.message
    assert caught.value.param == "f"


def test_texts_may_only_be_so_long_together() -> None:
    compiler = byte_compiler(max_source_bytes=10)
    compiler.compile(Concat((Regex("a{4}", "f"), Choice(("abc", "def"), "g"))))
    with pytest.raises(InvalidRequestError, match=r"g: at most 10 bytes \(setting max_grammar_bytes\), got 11"):
        compiler.compile(Concat((Regex("a{5}1", "f"), Choice(("abc", "def"), "g"))))


def test_the_grammars_used_last_are_kept() -> None:
    compiler = byte_compiler(cache_size=2)
    first, second, third = (Regex(pattern, "f") for pattern in ("a", "b", "c"))
    kept = compiler.compile(first)
    compiler.submit(second).result(10)
    assert compiler.compile(Regex("a", "another field")) is kept
    compiler.compile(third)
    assert compiler.cached(first) is kept
    assert compiler.cached(second) is None


def test_matchers_of_one_grammar_go_different_ways() -> None:
    grammar = byte_compiler().compile(Regex("ab|cd", "f"))
    one, other = grammar.matcher(), grammar.matcher()
    one.advance(ord("a"))
    other.advance(ord("c"))
    one.advance(ord("b"))
    assert one.may_end
    assert not other.may_end
    assert random_output(grammar, 1) in ("ab", "cd")


def test_a_model_that_can_never_end_a_reply_is_held_to_no_format() -> None:
    class Endless:
        vocab_size = 256
        eos_token_ids: frozenset[int] = frozenset()

        def token_bytes(self, token_id: int) -> bytes:
            return bytes([token_id])

        def is_special(self, token_id: int) -> bool:
            return False

    with pytest.raises(UnsupportedParameterError, match="no token that ends a reply"):
        GrammarCompiler(Endless(), max_source_bytes=100, cache_size=1).compile(AB)


def test_chains_of_rules_and_references_as_long_as_may_be_are_compiled() -> None:
    """In a usual thread's stack they would end the process."""
    rules = "\n".join(f"p{index}: p{index + 1}" for index in range(8000))
    refs = {f"d{index}": {"items": {"$ref": f"#/$defs/d{index + 1}"}, "type": "array"} for index in range(1900)}
    schema = json.dumps({"$ref": "#/$defs/d0", "$defs": {**refs, "d1900": {}}})
    compiler = byte_compiler(max_source_bytes=Settings().max_grammar_bytes)
    grammar = compiler.submit(Grammar(f'start: p0\n{rules}\np8000: "a"', "f")).result()
    assert accepts(grammar, "a")
    assert accepts(compiler.submit(JSONSchema(schema, "f")).result(), "[[[]]]")


def test_a_format_that_grows_too_complex_on_the_way_is_an_error_there() -> None:
    rules = "\n".join(f'p{index}: p{index + 1} | "b" p{index + 1}' for index in range(750))
    matcher = byte_compiler().submit(Grammar(f'start: p0\n{rules}\np750: "a"', "f")).result().matcher()
    assert allowed(matcher.allowed()) == [ord("a"), ord("b")]
    with pytest.raises(StructuredOutputError, match="Current row has"):
        matcher.advance(ord("b"))


def test_a_format_without_any_output_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="f: no output can be begun"):
        byte_compiler().compile(JSONSchema('{"$ref": "#"}', "f"))


def test_a_token_that_is_not_allowed_is_an_error() -> None:
    matcher = byte_compiler().compile(Regex("ab", "f")).matcher()
    with pytest.raises(StructuredOutputError, match="can't be held any longer"):
        matcher.advance(ord("b"))
    with pytest.raises(StructuredOutputError):
        matcher.allowed()
