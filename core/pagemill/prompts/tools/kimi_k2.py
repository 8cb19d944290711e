"""Kimi K2: each call between special tokens, with an id that says the tool's name and counts.

    <|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"city": "Paris"}
    <|tool_call_end|><|tool_calls_section_end|>

The ids are the model's own: it is to find them again in the conversation. Source: the chat template of
moonshotai/Kimi-K2-Instruct, and its guide to tool calls. Owns no state.
"""

import re

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, accept, skip_space, take_while, until
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.json_call import read_value

CALLS_BEGIN, CALLS_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
BEGIN, ARGUMENTS, END = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"
MARKERS: tuple[str, ...] = (CALLS_BEGIN, CALLS_END, BEGIN, ARGUMENTS, END)
TRIGGER = CALLS_BEGIN
SYNTAXES = (CallSyntax(f"{BEGIN}functions.{{name}}:{{index}}{ARGUMENTS}", END, begin=CALLS_BEGIN, end=CALLS_END),)
ID = re.compile(r"[^\s<]*")
NAME_IN_ID = re.compile(r"(?:functions\.)?(.+?)(?::[0-9]+)?")


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package. The tokens around all calls are layout; a missing one does no harm."""
    known_ids: set[str] = set()
    while (marker := (yield from until(source, (CALLS_BEGIN, CALLS_END, BEGIN), out.content))) is not None:
        if marker != BEGIN:
            continue
        source.mark()
        yield from skip_space(source)
        call_id = yield from take_while(source, ID)
        yield from skip_space(source)
        name = NAME_IN_ID.fullmatch(call_id)
        if name is None or not (yield from accept(source, ARGUMENTS)):
            source.rewind()
            out.content(BEGIN)
            continue
        source.commit()
        out.start_call(name[1], None if call_id in known_ids else call_id)
        known_ids.add(call_id)
        yield from _read_arguments(source, out)


def _read_arguments(source: TextSource, out: EventWriter) -> Reading[None]:
    yield from skip_space(source)
    if (yield from accept(source, END)):
        out.arguments("{}")
    elif (yield from read_value(source, out.arguments)):
        yield from skip_space(source)
        yield from accept(source, END)
    else:
        yield from until(source, (END,), out.arguments)
