"""Pythonic calls: a list of Python calls (Llama 3.2 and 4, LFM2, Gemma 3), perhaps between special tokens.

    [get_weather(city="Paris", days=3), get_time(city="Rome")]

Source: the chat templates of meta-llama/Llama-4 and LiquidAI/LFM2. Only names of tools count, since markdown, too, has
brackets at the beginning of lines. An argument is given out when it is complete: Python's literals become JSON. Those
without a keyword take the names of the schema's properties, in order. Owns no state.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, Write, accept, next_char, skip_space, take_while, until
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.bare_call import read_bare_calls
from pagemill.prompts.tools.json_call import Outcome, read_calls
from pagemill.prompts.tools.typed_values import to_json

TAGS = ("<|python_start|>", "<|tool_call_start|>", "```tool_code\n")
END_TAGS = ("<|python_end|>", "<|tool_call_end|>", "```")
MARKERS: tuple[str, ...] = (*TAGS[:2], *END_TAGS[:2])
TRIGGER = ""
SYNTAXES: tuple[CallSyntax, ...] = ()  # see `HELD_FORMATS`
NAME = re.compile(r"[\w.\-]*")
CLOSING = {"(": ")", "[": "]", "{": "}"}
QUOTES = ('"""', "'''", '"', "'")
JSON_LITERALS = {"true": True, "false": False, "null": None}


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package."""
    yield from read_bare_calls(source, out, TAGS, partial(_attempt, source, out, tools))


def _attempt(source: TextSource, out: EventWriter, tools: ToolSchemas, tag: str) -> Reading[bool]:
    source.mark()
    if tag:  # then it may be a list of JSON objects, too
        yield from skip_space(source)
        outcome = yield from read_calls(source, out, tools)
        if outcome is not Outcome.NO_CALL:
            yield from (skip_space(source) if outcome is Outcome.CALL else until(source, END_TAGS, out.arguments))
            yield from accept(source, *END_TAGS)
            return True
        source.rewind()
        source.mark()
        yield from skip_space(source)
    if not (yield from accept(source, "[")) and not tag:
        source.rewind()
        return False
    found = False
    while True:
        yield from skip_space(source)
        name = yield from take_while(source, NAME)
        if (name not in tools and not (tag and name)) or not (yield from accept(source, "(")):
            source.rewind()
            return found
        found = True
        out.start_call(name)
        source.commit()
        properties = tools.get(name, {}).get("properties")
        names = list(properties) if isinstance(properties, Mapping) else []
        if not (yield from _read_arguments(source, out, iter(names))):
            return True
        source.mark()
        yield from skip_space(source)
        if (yield from accept(source, ",", "]")) != ",":
            break
    yield from skip_space(source)
    yield from accept(source, *END_TAGS)
    return True


def _read_arguments(source: TextSource, out: EventWriter, names: Iterator[str]) -> Reading[bool]:
    """From after the opening bracket to the closing one; False: it does not come."""
    before = "{"
    while True:
        text, end = yield from _read_source(source, ",)=")
        key = text.strip()
        if end == "=":
            text, end = yield from _read_source(source, ",)")
        elif key:
            key = next(names, "")
        if end == "":
            return False
        if key:
            out.arguments(f"{before}{json.dumps(key, ensure_ascii=False)}: {_to_json(text.strip())}")
            before = ", "
        if end == ")":
            out.arguments("{}" if before == "{" else "}")
            return True


def _read_source(source: TextSource, ends: str) -> Reading[tuple[str, str]]:
    """Python source up to one of the `ends` outside of brackets and quotes, and which of them it is ("": none)."""
    parts: list[str] = []
    open_brackets: list[str] = []
    while True:
        character = yield from next_char(source)
        if character in ("'", '"'):
            yield from _read_string(source, parts.append)
            continue
        if not character or (not open_brackets and character in ends):
            return "".join(parts), source.take(len(character))
        if character in CLOSING:
            open_brackets.append(CLOSING[character])
        elif open_brackets and character == open_brackets[-1]:
            open_brackets.pop()
        parts.append(source.take(1))


def _read_string(source: TextSource, write: Write) -> Reading[None]:
    quote = (yield from accept(source, *QUOTES)) or ""
    write(quote)
    while (end := (yield from until(source, (quote, "\\"), write))) == "\\":
        escaped = yield from next_char(source)
        write("\\" + source.take(len(escaped)))
    write(end or "")


def _to_json(text: str) -> str:
    """A literal as JSON; what is none as a string."""
    try:
        value: Any = JSON_LITERALS[text] if text in JSON_LITERALS else ast.literal_eval(text)
        return to_json(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return json.dumps(text, ensure_ascii=False)
