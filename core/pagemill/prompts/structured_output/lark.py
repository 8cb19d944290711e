"""From a `Format` to the grammar text that llguidance compiles: Lark, with JSON schemas inside.

Owns no state beyond one grammar. Rules are named p0, p1, ...; a client's own grammar is a grammar of its own beside
the main one, so that its names can't meet ours. Syntax: llguidance's docs/syntax.md.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llguidance import regex_to_lark

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
    Source,
    Text,
    Until,
)

# The model chooses its tokens for what the grammar forces, too: no tokenizer is asked for the usual ones.
OPTIONS = '%llguidance {"no_forcing": true}'
# As llama.cpp's grammars have it: never endless, since each place takes it once.
WHITE_SPACE = r"\x20|\x0A[\x20\x09]{0,20}"
ANY = "/(?s:.*)/"


def to_grammar(part: Format, special_tokens: Mapping[str, int]) -> str:
    """The serialized grammar of a format. `special_tokens` are the model's, by name.

    Raises:
        ValueError: a schema is not JSON, or a grammar is no GBNF; says where.
    """
    writer = _Writer(special_tokens)
    start = writer.expression(part)
    main = "\n".join([OPTIONS, f"start: {start}", *writer.rules])
    return json.dumps({"grammars": [{"name": "main", "lark_grammar": main}, *writer.grammars]})


class _Writer:
    """Collects the rules of one grammar. Expressions can stand anywhere in a rule."""

    def __init__(self, special_tokens: Mapping[str, int]) -> None:
        self.rules: list[str] = []
        self.grammars: list[dict[str, str]] = []
        self._special_tokens = special_tokens
        self._names: dict[Format, str] = {}

    def expression(self, part: Format) -> str:
        match part:
            case Text(text):
                return self._text(text)
            case OneOf(parts):
                return f"({' | '.join(self.expression(inner) for inner in parts)})"
            case Concat(parts):
                return f"({' '.join(self.expression(inner) for inner in parts)})"
            case Repeat():
                return self._repeat(part)
        if part not in self._names:
            self._names[part] = f"p{len(self._names)}"
            self._define(self._names[part], part)
        return self._names[part]

    def _define(self, name: str, part: Source | Until | AnyText) -> None:
        match part:
            case JSONSchema():
                self.rules.append(f"{name}: %json {json.dumps(with_options(parse_schema(part.source), part.compact))}")
            case Regex(source):
                self.rules.append(f"{name}: /{regex_to_lark(source, 'dw')}/")
            case Choice(options):  # in one terminal, which holds thousands
                self.rules.append(f"{name}: {name.upper()}\n{name.upper()}: {' | '.join(map(quoted, options))}")
            case Grammar(source):
                self.grammars.append({"name": name, "lark_grammar": to_lark(source)})
                self.rules.append(f"{name}: @{name}")
            case Until(ends):
                self._define_until(name, ends)
            case AnyText(without) if without is None or without in self._special_tokens:
                self.rules.append(f"{name}: {ANY}")
            case AnyText(without):
                elsewhere = f"{ANY} {quoted(without or '')} {ANY}"
                self.rules.append(f"{name}: {name.upper()}\n{name.upper()}: {ANY} & ~({elsewhere})")

    def _define_until(self, name: str, ends: Sequence[str]) -> None:
        special = [self._special_tokens[end] for end in ends if end in self._special_tokens]
        plain = [quoted(end) for end in ends if end not in self._special_tokens]
        ways = []
        if special:
            ways.append(f"{ANY} <[{','.join(map(str, special))}]>")
        if plain:
            ways.append(f"{name}_text")
            self.rules.append(f"{name}_text[suffix={name.upper()}]: {ANY}\n{name.upper()}: {' | '.join(plain)}")
        self.rules.append(f"{name}: {' | '.join(ways)}")

    def _text(self, text: str) -> str:
        names = "|".join(re.escape(name) for name in sorted(self._special_tokens, key=len, reverse=True))
        pieces = re.split(f"({names})", text) if names else [text]
        tokens = (
            f"<[{self._special_tokens[piece]}]>" if piece in self._special_tokens else quoted(piece)
            for piece in pieces
            if piece
        )
        return f"({' '.join(tokens) or quoted('')})"

    def _repeat(self, part: Repeat) -> str:
        inner, maximum = self.expression(part.part), part.maximum
        if part.separator is None or maximum == 0:
            return f"{inner}{_times(part.minimum, maximum)}"
        more = f"({self.expression(part.separator)} {inner})"
        rest = _times(max(part.minimum - 1, 0), None if maximum is None else maximum - 1)
        return f"({inner} {more}{rest}){'' if part.minimum else '?'}"


def _times(minimum: int, maximum: int | None) -> str:
    return f"{{{minimum},{'' if maximum is None else maximum}}}"


def quoted(text: str) -> str:
    """A string of Lark."""
    return json.dumps(text, ensure_ascii=False)


def parse_schema(source: str) -> Any:
    """The schema that the text is. Raises ValueError: it is not JSON."""
    try:
        return json.loads(source, parse_constant=_refuse_constant, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"it is not valid JSON: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"there is no {name}")


def _integer(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"integers of more than 64 bits are not supported, got {text[:40]}")
    return value


def with_options(schema: Any, compact: bool) -> Any:
    """The schema with how its values are to be written."""
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):  # the library says what is wrong with it
        return schema
    spaces: dict[str, Any] = {"whitespace_flexible": False} if compact else {"whitespace_pattern": WHITE_SPACE}
    return {**schema, "x-guidance": spaces}


def to_lark(source: str) -> str:
    """A client's grammar in Lark; GBNF is told by its `::=`. Raises ValueError: it is no GBNF; says where."""
    if "::=" not in source:
        return source
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return str(any_to_lark(source))
    except Exception as error:  # the library's parser raises Exception itself, and whatever a damaged text leads to
        raise ValueError(str(error)) from error
