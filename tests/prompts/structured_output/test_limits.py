"""What a client's format may cost: a token, by the parser's and the lexer's work, and an output, by a clock."""

import json
import time
from itertools import count, pairwise, product
from random import Random
from typing import Any

import pytest

from pagemill.backends.fake.tokenizer import EOS
from pagemill.errors import InvalidRequestError, StructuredOutputError
from pagemill.prompts.structured_output.compiler import GrammarCompiler
from pagemill.prompts.structured_output.formats import Format, Grammar, JSONSchema, Regex
from pagemill.prompts.structured_output.limits import GrammarLimits
from pagemill.prompts.structured_output.matcher import CompiledGrammar
from pagemill.settings import Settings
from support.outputs import allowed, byte_compiler

AMBIGUOUS = Grammar('start: s\ns: s s | s s s | "a" | "b" | "ab" | ""', "f")
CHAIN = " ".join(f"o{index}" for index in range(400))
NULLABLE = Grammar(
    f"start: s\ns: {CHAIN}\n" + "\n".join(f'o{index}: "a" | "ab" | "b" | ""' for index in range(400)), "f"
)
WORDS = [Random(index).randbytes(4).hex() for index in range(600)]
TERMINALS = Grammar(
    f"start: s+\ns: {' | '.join(f'T{index}' for index in range(600))}\n"
    + "\n".join(f"T{index}: /[a-z0-9]*{word}[a-z0-9]*/" for index, word in enumerate(WORDS)),
    "f",
)
COUNTED = Regex("([a-z]{1,200} ?){1,200}", "f")


def outcome(grammar: CompiledGrammar, num_tokens: int = 1000) -> str:
    """What ends an output of a random model; "" if nothing did for so many tokens."""
    matcher, random = grammar.matcher(), Random(1)
    try:
        for _ in range(num_tokens):
            choices = [token_id for token_id in allowed(matcher.allowed()) if token_id != EOS]
            if not choices:
                return "complete"
            matcher.advance(random.choice(choices))
    except StructuredOutputError as error:
        return error.message
    return ""


def test_the_defaults_are_those_of_the_settings() -> None:
    settings = Settings()
    assert GrammarLimits() == (
        settings.max_grammar_items,
        settings.max_grammar_fuel,
        settings.max_grammar_states,
        settings.max_grammar_ms,
    )


class Pairs:
    """A vocabulary of two letters, and of all words of up to eight of them."""

    tokens = tuple(bytes(word) for length in range(1, 9) for word in product(b"ab", repeat=length))
    vocab_size = len(tokens) + 1
    eos_token_ids = frozenset({len(tokens)})

    def token_bytes(self, token_id: int) -> bytes:
        return self.tokens[token_id] if token_id < len(self.tokens) else b""

    def is_special(self, token_id: int) -> bool:
        return token_id in self.eos_token_ids


def test_a_format_whose_beginning_takes_too_much_is_refused_with_the_setting() -> None:
    with pytest.raises(InvalidRequestError, match=r"^f: .*Too many items.* \(setting max_grammar_items\)$"):
        GrammarCompiler(Pairs(), max_source_bytes=100_000, cache_size=0).compile(NULLABLE)
    with pytest.raises(InvalidRequestError, match=r"^f: .*lexer configuration .* \(setting max_grammar_fuel\)$"):
        byte_compiler(max_fuel=1000).compile(TERMINALS)


@pytest.mark.parametrize(
    ("wanted", "limits", "setting"),
    [
        (AMBIGUOUS, {"max_items": 1000, "max_ms": 1e6}, "max_grammar_items"),
        (AMBIGUOUS, {}, "max_grammar_ms"),
        (COUNTED, {"max_fuel": 1000}, "max_grammar_fuel"),
        (COUNTED, {"max_states": 100}, "max_grammar_states"),
    ],
)
def test_an_output_whose_format_grows_beyond_a_limit_ends_with_the_setting(
    wanted: Format, limits: dict[str, Any], setting: str
) -> None:
    assert f"(setting {setting})" in outcome(byte_compiler(**limits).compile(wanted))


def until_it_ends(grammar: CompiledGrammar) -> tuple[list[float], str]:
    """Of an output of the letter a: when each token was there, on the clock that counts; and what ended it."""
    matcher, clock = grammar.matcher(), [time.thread_time()]
    try:
        while True:
            matcher.allowed()
            matcher.advance(ord("a"))
            clock.append(time.thread_time())
    except StructuredOutputError as error:
        return [*clock, time.thread_time()], error.message


def test_an_output_that_went_beyond_a_limit_does_not_spoil_the_next_of_its_format() -> None:
    compiler = byte_compiler(max_states=100)
    grammar = compiler.compile(COUNTED)
    assert compiler.cached(COUNTED) is grammar
    assert "max_grammar_states" in outcome(grammar)
    assert compiler.cached(COUNTED) is None
    compiler.compile(COUNTED).matcher().allowed()


def test_an_ambiguous_grammar_holds_up_a_thread_for_no_longer_than_it_may() -> None:
    """All of the output together: what it has beforehand, its tokens' share, and the one that was too much."""
    clock, message = until_it_ends(byte_compiler().compile(AMBIGUOUS))
    assert "takes more than 5 ms a token (setting max_grammar_ms)" in message
    num_tokens, longest_s = len(clock) - 2, max(after - before for before, after in pairwise(clock))
    assert num_tokens > 50
    assert clock[-1] - clock[0] < 0.005 * (20 + num_tokens) + longest_s + 0.05


def test_time_beyond_the_average_ends_an_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is 4 ms later than the last, so a token takes 8 ms: 3 too many, and 100 are given
    beforehand.
    """
    grammar = byte_compiler().compile(Regex("a*", "f"))
    looks = count()
    monkeypatch.setattr(time, "thread_time", lambda: next(looks) * 0.004)
    clock, message = until_it_ends(grammar)
    assert "max_grammar_ms" in message
    assert len(clock) - 2 == 33


@pytest.mark.parametrize("name", ["properties", "alternatives"])
def test_large_schemas_stay_within_the_defaults(name: str) -> None:
    members = {word: {"type": "string"} for word in WORDS[:300]}
    kinds = [{"properties": {"kind": {"const": word}}, "required": ["kind"]} for word in WORDS[:300]]
    schemas = {
        "properties": {"type": "object", "properties": members},
        "alternatives": {"type": "array", "items": {"anyOf": [{"type": "object", **kind} for kind in kinds]}},
    }
    grammar = byte_compiler().compile(JSONSchema(json.dumps(schemas[name]), "f"))
    text = {"properties": f'{{"{WORDS[7]}": "x", "{WORDS[99]}": "y"}}', "alternatives": f'[{{"kind": "{WORDS[299]}"}}]'}
    matcher = grammar.matcher()
    for byte in text[name].encode():
        assert byte in allowed(matcher.allowed())
        matcher.advance(byte)
    assert matcher.may_end
