"""Qwen3-Coder, and Seed-OSS with other outer tags: calls in tags of their own, values without quotes.

    <tool_call>
    <function=get_weather>
    <parameter=city>
    Paris
    </parameter>
    </function>
    </tool_call>

Source: the chat template of Qwen/Qwen3-Coder-30B-A3B-Instruct. Owns no state.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, accept, skip_space, take_while, until
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.typed_values import parameter_schema, read_typed

BEGINS = ("<tool_call>", "<seed:tool_call>")
ENDS = ("</tool_call>", "</seed:tool_call>")
FUNCTION, FUNCTION_END = "<function=", "</function>"
PARAMETER, PARAMETER_END = "<parameter=", "</parameter>"
MARKERS: tuple[str, ...] = (*BEGINS, *ENDS)
TRIGGER = ""
SYNTAXES: tuple[CallSyntax, ...] = ()  # see `HELD_FORMATS`
NAME = re.compile(r"[^\s<>]*")


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package. The outer tags may be missing."""
    while (marker := (yield from until(source, (*BEGINS, FUNCTION), out.content))) is not None:
        source.mark()
        if marker in BEGINS:
            yield from skip_space(source)
        if marker in BEGINS and not (yield from accept(source, FUNCTION)):
            name = ""
        else:
            name = yield from take_while(source, NAME)
        if not name or not (yield from accept(source, ">")):
            source.rewind()
            out.content(marker)
            continue
        source.commit()
        yield from _read_arguments(source, out, name, tools.get(name))
        yield from skip_space(source)
        yield from accept(source, *ENDS)


def _read_arguments(source: TextSource, out: EventWriter, name: str, tool: Mapping[str, Any] | None) -> Reading[None]:
    out.start_call(name)
    before, unread = "{", ""
    while not unread:
        yield from skip_space(source)
        if not (yield from accept(source, PARAMETER)):
            break
        key = yield from take_while(source, NAME)
        if (yield from accept(source, ">")):
            out.arguments(f"{before}{json.dumps(key, ensure_ascii=False)}: ")
            before = ", "
            yield from _read_value(source, out, parameter_schema(tool, key))
        else:
            unread = PARAMETER + key
    if (yield from accept(source, FUNCTION_END)) or not source.ended:  # else it is cut off, and stays so
        out.arguments("{}" if before == "{" else "}")
        out.content(unread)


def _read_value(source: TextSource, out: EventWriter, schema: Mapping[str, Any]) -> Reading[None]:
    """The value on its lines. An end tag may be missing, before the next tag."""
    yield from accept(source, "\n")
    ends = ("\n" + PARAMETER_END, PARAMETER_END, "\n" + PARAMETER, "\n" + FUNCTION_END)
    end = yield from read_typed(source, out, ends, schema)
    if end is not None and PARAMETER_END not in end:
        source.back(len(end))
