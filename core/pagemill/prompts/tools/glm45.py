"""GLM 4.5 to 4.7: a call is a name, then keys and values in tags.

    <tool_call>get_weather
    <arg_key>city</arg_key>
    <arg_value>Paris</arg_value>
    </tool_call>

Source: the chat template of zai-org/GLM-4.6. Owns no state.
"""

import json
import re

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, accept, skip_space, take_while, until
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.typed_values import parameter_schema, read_typed

BEGIN, END = "<tool_call>", "</tool_call>"
KEY, KEY_END, VALUE, VALUE_END = "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"
MARKERS: tuple[str, ...] = (BEGIN, END, KEY, KEY_END, VALUE, VALUE_END)
TRIGGER = ""
SYNTAXES: tuple[CallSyntax, ...] = ()  # see `HELD_FORMATS`
NAME = re.compile(r"[^\s<>{]*")


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package."""
    while (yield from until(source, (BEGIN,), out.content)):
        source.mark()
        yield from skip_space(source)
        name = yield from take_while(source, NAME)
        yield from skip_space(source)
        mark = yield from accept(source, KEY, END)
        if not name or mark is None:
            source.rewind()
            out.content(BEGIN)
            continue
        source.commit()
        out.start_call(name)
        before = "{"
        while mark == KEY:
            key: list[str] = []
            yield from until(source, (KEY_END,), key.append)
            yield from skip_space(source)
            mark = None
            if (yield from accept(source, VALUE)):
                out.arguments(f"{before}{json.dumps(''.join(key), ensure_ascii=False)}: ")
                before = ", "
                yield from read_typed(source, out, (VALUE_END,), parameter_schema(tools.get(name), "".join(key)))
                yield from skip_space(source)
                mark = yield from accept(source, KEY, END)
        if mark == END or not source.ended:  # else it is cut off, and stays so
            out.arguments("{}" if before == "{" else "}")
