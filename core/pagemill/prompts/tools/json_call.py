"""JSON read as it arrives, and tool calls that are JSON objects: `{"name": "f", "arguments": {...}}`.

Owns no state. The arguments' text is given out as the model wrote it, from the moment at which the call is certain.
"""

import json
import re
from enum import Enum

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, Write, accept, next_char, skip_space, take_while
from pagemill.prompts.tools import ToolSchemas

PLAIN = re.compile(r'[^"\\\x00-\x1f]*')  # inside a string
SCALAR = re.compile(r"[-+.\w]*")
CLOSING = {"{": "}", "[": "]"}
NAMES = ("name", "function", "tool_name")
ARGUMENTS = ("arguments", "parameters")
FURTHER = ("type", "id", "index", "tool_call_id")  # members that some models add, and that say nothing


class Outcome(Enum):
    """What a text that begins like a call is."""

    CALL = "a call, read to its end"
    NO_CALL = "something else: nothing is written"
    BROKEN = "a call whose arguments, which are being written, go on as no JSON"


def read_value(source: TextSource, write: Write) -> Reading[bool]:
    """Write out one JSON value as it comes; False where it stops being one (what came before is written).

    Brackets, strings and characters are checked, not the grammar: arguments are the client's to parse.
    """
    open_brackets: list[str] = []
    while True:
        character = yield from next_char(source)
        if character == '"':
            if not (yield from _read_string(source, write)):
                return False
        elif character in CLOSING:
            open_brackets.append(CLOSING[character])
            write(source.take(1))
        elif open_brackets and character == open_brackets[-1]:
            open_brackets.pop()
            write(source.take(1))
        elif open_brackets and character and character in ",: \n\r\t":
            write(source.take(1))
            continue
        elif scalar := (yield from take_while(source, SCALAR)):
            write(scalar)
        else:
            return False
        if not open_brackets:
            return True


def _read_string(source: TextSource, write: Write) -> Reading[bool]:
    write(source.take(1))
    while True:
        if text := source.match(PLAIN):
            write(source.take(len(text)))
        character = yield from next_char(source)
        if character == '"':
            write(source.take(1))
            return True
        if character == "\\":
            source.take(1)
            escaped = yield from next_char(source)
            write("\\" + source.take(len(escaped)))
        elif not character or character < " ":
            return False


def read_string(source: TextSource) -> Reading[str | None]:
    """A JSON string's value; None if there is no string, or one that is no Unicode text (half a surrogate pair)."""
    parts: list[str] = []
    if (yield from next_char(source)) != '"' or not (yield from _read_string(source, parts.append)):
        return None
    try:
        value = str(json.loads("".join(parts)))
        value.encode()
    except ValueError:
        return None
    return value


def read_call(
    source: TextSource, out: EventWriter, tools: ToolSchemas, *, known_only: bool = False
) -> Reading[Outcome]:
    """A call that is a JSON object, from its brace on. `known_only`: other names than those of `tools` are no calls."""
    call = _Call(out, tools if known_only else None)
    if not (yield from accept(source, "{")):
        return Outcome.NO_CALL
    while True:
        outcome = yield from _read_member(source, call)
        if outcome is not Outcome.CALL:
            return outcome
        yield from skip_space(source)
        if not (yield from accept(source, ",")):
            break
    if not (yield from accept(source, "}")) and not call.started:
        return Outcome.NO_CALL
    return Outcome.CALL if call.started or call.start_whole() else Outcome.NO_CALL


class _Call:
    """What is known of a call while its object is read."""

    __slots__ = ("_known", "_out", "arguments", "name", "started")

    def __init__(self, out: EventWriter, known: ToolSchemas | None) -> None:
        self._out = out
        self._known = known
        self.name: str | None = None
        self.arguments: str | None = None  # those that can't be given out as they come
        self.started = False

    def may_be_named(self, name: str | None) -> bool:
        return name is not None and (self._known is None or name in self._known)

    def start(self) -> Write:
        """Begin the call; returns where its arguments go."""
        assert self.name is not None
        self._out.start_call(self.name)
        self.started = True
        return self._out.arguments

    def start_whole(self) -> bool:
        """The object is read; whether it was a call."""
        if self.name is None:
            return False
        self.start()(self.arguments or "{}")
        return True


def _read_member(source: TextSource, call: _Call) -> Reading[Outcome]:
    """One member of the object. Outcome.CALL: go on. After the arguments, what is wrong ends the call and no more."""
    failure = Outcome.CALL if call.started else Outcome.NO_CALL
    yield from skip_space(source)
    key = yield from read_string(source)
    yield from skip_space(source)
    if key is None or not (yield from accept(source, ":")):
        return failure
    yield from skip_space(source)
    if key in NAMES and call.name is None:
        call.name = yield from read_string(source)
        return Outcome.CALL if call.may_be_named(call.name) else failure
    if key in ARGUMENTS and not call.started:
        if call.name is not None and (yield from next_char(source)) == "{":
            source.commit()
            return Outcome.CALL if (yield from read_value(source, call.start())) else Outcome.BROKEN
        call.arguments = yield from _whole_arguments(source)
        return failure if call.arguments is None else Outcome.CALL
    is_known = key in FURTHER or call.started
    return Outcome.CALL if is_known and (yield from read_value(source, _ignore)) else failure


def _whole_arguments(source: TextSource) -> Reading[str | None]:
    """Arguments that can't be given out as they come: an object before its name, null, or an object in a string."""
    parts: list[str] = []
    if not (yield from read_value(source, parts.append)):
        return None
    text = "".join(parts)
    try:
        value = json.loads(text)
        if isinstance(value, str):
            text = value
            value = json.loads(text)
            text.encode()
    except (ValueError, RecursionError):
        return None
    if value is None:
        return "{}"
    return text if isinstance(value, dict) else None


def read_calls(
    source: TextSource, out: EventWriter, tools: ToolSchemas, *, known_only: bool = False
) -> Reading[Outcome]:
    """A list of calls, from its bracket on. One that is no call ends it: what is left is not read."""
    if not (yield from accept(source, "[")):
        return Outcome.NO_CALL
    yield from skip_space(source)
    outcome = yield from read_call(source, out, tools, known_only=known_only)
    while outcome is Outcome.CALL:
        source.commit()
        yield from skip_space(source)
        if (yield from accept(source, ",", "]")) != ",":
            break
        yield from skip_space(source)
        source.mark()
        outcome = yield from read_call(source, out, tools, known_only=known_only)
        if outcome is Outcome.NO_CALL:
            source.rewind()
            return Outcome.CALL
    return outcome


def _ignore(text: str) -> None:
    """The text is no part of the call."""
