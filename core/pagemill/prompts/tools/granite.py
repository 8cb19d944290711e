"""Granite 3 and Phi-4-mini: a list of JSON objects after `<|tool_call|>`.

    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]

Source: the chat templates of ibm-granite/granite-3.x-instruct and microsoft/Phi-4-mini-instruct. Owns no state.
"""

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, accept, copy_all, skip_space, until
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.json_call import Outcome, read_calls

BEGIN, END = "<|tool_call|>", "<|/tool_call|>"
MARKERS: tuple[str, ...] = (BEGIN, END)
TRIGGER = BEGIN
SYNTAXES = (CallSyntax('{"name": "{name}", "arguments": ', "}", between=", ", begin=BEGIN + "[", end="]"),)


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package."""
    while (yield from until(source, (BEGIN,), out.content)):
        source.mark()
        yield from skip_space(source)
        outcome = yield from read_calls(source, out, tools)
        if outcome is Outcome.NO_CALL:
            source.rewind()
            out.content(BEGIN)
        elif outcome is Outcome.BROKEN:
            yield from copy_all(source, out.arguments)
        else:
            yield from skip_space(source)
            yield from accept(source, END)
