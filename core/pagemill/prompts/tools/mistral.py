"""Mistral: calls after `[TOOL_CALLS]`, a list of objects up to tokenizer v7, later each a name and its arguments.

    [TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}}]
    [TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]get_time[CALL_ID]a1b2c3d4e[ARGS]{"city": "Rome"}

Source: mistral-common's instruct tokenizers. Owns no state.
"""

import re

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, accept, next_char, skip_space, take_while, until
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.json_call import Outcome, read_calls, read_value

BEGIN, CALL_ID, ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
MARKERS: tuple[str, ...] = (BEGIN, CALL_ID, ARGS)
TRIGGER = BEGIN
SYNTAXES = (
    CallSyntax('{"name": "{name}", "arguments": ', "}", between=", ", begin=BEGIN + "[", end="]"),
    CallSyntax('{"name": "{name}", "arguments": ', "}", between=", ", begin=BEGIN + " [", end="]"),
    CallSyntax(BEGIN + "{name}" + ARGS, ""),
)
NAME = re.compile(r"[^\s\[\]{}]*")


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package."""
    while (yield from until(source, (BEGIN,), out.content)):
        source.mark()
        yield from skip_space(source)
        if (yield from next_char(source)) == "[":
            outcome = yield from read_calls(source, out, tools)
        else:
            outcome = yield from _read_named(source, out)
        if outcome is Outcome.NO_CALL:
            source.rewind()
            out.content(BEGIN)
        elif outcome is Outcome.BROKEN and (yield from until(source, (BEGIN,), out.arguments)):
            source.back(len(BEGIN))


def _read_named(source: TextSource, out: EventWriter) -> Reading[Outcome]:
    name = yield from take_while(source, NAME)
    if (yield from accept(source, CALL_ID)):
        yield from take_while(source, NAME)
    yield from accept(source, ARGS)
    yield from skip_space(source)
    if not name or (yield from next_char(source)) != "{":
        return Outcome.NO_CALL
    out.start_call(name)
    source.commit()
    return Outcome.CALL if (yield from read_value(source, out.arguments)) else Outcome.BROKEN
