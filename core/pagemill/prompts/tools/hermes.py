"""Hermes, and with it Qwen 2.5 and 3, grist and many others: JSON objects between `<tool_call>` and `</tool_call>`.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

Source: the chat templates of NousResearch/Hermes-2-Pro and Qwen/Qwen2.5. Owns no state.
"""

import re

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, accept, next_char, skip_space, take_while, until
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.json_call import Outcome, read_call

BEGIN, END = "<tool_call>", "</tool_call>"
MARKERS: tuple[str, ...] = (BEGIN, END)
TRIGGER = BEGIN
SYNTAXES = (CallSyntax(BEGIN + '\n{"name": "{name}", "arguments": ', "}\n" + END, between="\n"),)
SURPLUS = re.compile(r"[\s}]*")  # models miscount closing braces


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package. One pair of tags may hold several calls; the end tag may be missing."""
    while (yield from until(source, (BEGIN,), out.content)):
        source.mark()
        yield from skip_space(source)
        outcome = yield from read_call(source, out, tools)
        if outcome is Outcome.NO_CALL:
            source.rewind()
            out.content(BEGIN)
            continue
        while outcome is Outcome.CALL:
            source.commit()
            yield from take_while(source, SURPLUS)
            if (yield from next_char(source)) != "{":
                yield from accept(source, END)
                break
            source.mark()
            outcome = yield from read_call(source, out, tools)
        if outcome is Outcome.NO_CALL:
            source.rewind()
        elif outcome is Outcome.BROKEN:
            yield from until(source, (END,), out.arguments)
