"""What an output may look like: a `Format`, put together from a few parts, which a `GrammarCompiler` compiles.

    JSONSchema('{"type": "object"}', "response_format")                       JSON mode
    Concat((Until("</think>"), JSONSchema(...)))                              held after thinking
    Repeat(Concat((Text("<tool_call>\\n"), JSONSchema(...), Text("\\n</tool_call>"))), minimum=1)    tool calls
    Concat((Until("<tool_call>"), JSONSchema(...), Text("</tool_call>")))     free text up to a trigger, then a call

Formats are compared by value, so that a grammar is compiled once. Owns no state; imports nothing heavy. What a part's
text is (a schema's JSON, a pattern) is checked when it is compiled: `field` is how errors name the request's field that
it comes from.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Text:
    """Exactly this text. Names of the model's special tokens in it (`<|tool_call|>`) mean these tokens."""

    text: str


@dataclass(frozen=True, slots=True)
class JSONSchema:
    """A JSON value that the schema (JSON text) allows. Members come in the schema's order. Between its parts there may
    be a space, or a newline and indentation, but never endless white space; `compact` allows none.
    """

    source: str
    field: str = field(compare=False)
    compact: bool = False

    @classmethod
    def of(cls, schema: Mapping[str, Any] | bool, field: str, *, compact: bool = False) -> "JSONSchema":
        """Of a schema that was parsed already."""
        return cls(json.dumps(schema, ensure_ascii=False), field, compact)


@dataclass(frozen=True, slots=True)
class Regex:
    r"""A text that the pattern matches as a whole, in the syntax of Rust's regex crate: no lookaround, no
    backreferences. As in JavaScript and JSON Schema, `\d` and `\w` are ASCII.
    """

    source: str
    field: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these texts. Unlike in `Text`, names of special tokens mean nothing."""

    options: tuple[str, ...]
    field: str = field(compare=False)

    @property
    def source(self) -> str:
        return "".join(self.options)


@dataclass(frozen=True, slots=True)
class Grammar:
    """A text of a context-free grammar, in Lark's syntax (as llguidance has it) or in GBNF."""

    source: str
    field: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class OneOf:
    """Any one of the parts."""

    parts: tuple["Format", ...]


@dataclass(frozen=True, slots=True)
class Concat:
    """All parts, one after the other."""

    parts: tuple["Format", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The part, several times: `maximum` None is as often as the model likes. `separator` stands between two."""

    part: "Format"
    minimum: int = 0
    maximum: int | None = None
    separator: "Format | None" = None


@dataclass(frozen=True, slots=True)
class Until:
    """Any text, until one of the `ends` has come for the first time; with it. They may be names of special tokens.

    The output can't end before: a model that never says one runs into its token limit.
    """

    ends: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnyText:
    """Any text, also none, in which the text `without` does not occur. It comes last: text after it would be part of it
    (`Until` is for text that something follows).
    """

    without: str | None = None


Source = JSONSchema | Regex | Choice | Grammar  # parts whose text comes from a client
Format = Source | Text | OneOf | Concat | Repeat | Until | AnyText
JSON_OBJECT = '{"type": "object"}'


def optional(part: Format) -> Format:
    """The part or nothing."""
    return Repeat(part, maximum=1)


def sources(part: Format) -> Iterator[Source]:
    """The parts whose text comes from a client."""
    match part:
        case OneOf() | Concat():
            for inner in part.parts:
                yield from sources(inner)
        case Repeat():
            yield from sources(part.part)
            if part.separator is not None:
                yield from sources(part.separator)
        case JSONSchema() | Regex() | Choice() | Grammar():
            yield part
        case Text() | Until() | AnyText():
            return
