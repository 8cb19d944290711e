"""MiniMax M2, and DeepSeek from V3.2 on: calls in tags with attributes, values without quotes.

    <minimax:tool_call>
    <invoke name="get_weather">
    <parameter name="city">Paris</parameter>
    </invoke>
    </minimax:tool_call>

    <｜DSML｜function_calls>
    <｜DSML｜invoke name="get_weather">
    <｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>
    <｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>
    </｜DSML｜invoke>
    </｜DSML｜function_calls>

Source: the chat template of MiniMaxAI/MiniMax-M2, and the encoding that deepseek-ai/DeepSeek-V3.2 (in V4
`tool_calls`) describes to its models. Owns no state.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, accept, skip_space, until
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.typed_values import TYPES, allowed_types, parameter_schema, read_typed

DSML = "｜DSML｜"
# Around all calls, and what stands before the names of the tags within.
OUTER_TAGS = {"minimax:tool_call": "", f"{DSML}function_calls": DSML, f"{DSML}tool_calls": DSML}
BEGINS = {f"<{tag}>": prefix for tag, prefix in OUTER_TAGS.items()}
ENDS = tuple(f"</{tag}>" for tag in OUTER_TAGS)
MARKERS: tuple[str, ...] = (*BEGINS, *ENDS, DSML)
TRIGGER = ""
SYNTAXES: tuple[CallSyntax, ...] = ()  # see `HELD_FORMATS`
ATTRIBUTES = re.compile(r"""(["']?)([^"'<>]+)\1(?:\s+string="(true|false)")?\s*""")
ANY_TYPE = {"type": [*TYPES.values(), "null"]}


class Opening(NamedTuple):
    """What an opening tag says: of what name, and whether its text is a string (None: it doesn't say)."""

    name: str
    is_string: bool | None


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package."""
    while (begin := (yield from until(source, tuple(BEGINS), out.content))) is not None:
        prefix = BEGINS[begin]
        source.mark()
        opening = yield from _read_opening(source, f"{prefix}invoke")
        if opening is None:
            source.rewind()
            out.content(begin)
            continue
        while opening is not None:
            source.commit()
            out.start_call(opening.name)
            yield from _read_arguments(source, out, prefix, tools.get(opening.name))
            opening = yield from _read_opening(source, f"{prefix}invoke")
        yield from accept(source, *ENDS)


def _read_arguments(source: TextSource, out: EventWriter, prefix: str, tool: Mapping[str, Any] | None) -> Reading[None]:
    before = "{"
    while (opening := (yield from _read_opening(source, f"{prefix}parameter"))) is not None:
        out.arguments(f"{before}{json.dumps(opening.name, ensure_ascii=False)}: ")
        before = ", "
        schema = {} if opening.is_string else parameter_schema(tool, opening.name)
        if opening.is_string is False and not allowed_types(schema):
            schema = ANY_TYPE
        yield from read_typed(source, out, (f"</{prefix}parameter>",), schema)
    if (yield from accept(source, f"</{prefix}invoke>")) or not source.ended:  # else it is cut off, and stays so
        out.arguments("{}" if before == "{" else "}")


def _read_opening(source: TextSource, tag: str) -> Reading[Opening | None]:
    """Space and the tag, with its attributes; None: something else stands there."""
    yield from skip_space(source)
    if not (yield from accept(source, f"<{tag} name=")):
        return None
    parts: list[str] = []
    end = yield from until(source, (">",), parts.append)
    found = ATTRIBUTES.fullmatch("".join(parts))
    if end is None or found is None:
        return None
    return Opening(found[2], None if found[3] is None else found[3] == "true")
