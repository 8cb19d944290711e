"""Granite 3 and Phi-4-mini: a list of JSON objects after `<|tool_call|>`.

    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]

Source: the chat templates of ibm-granite/granite-3.x-instruct and microsoft/Phi-4-mini-instruct. Owns no state.
"""

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.tagged_json import read_tagged

BEGIN, END = "<|tool_call|>", "<|/tool_call|>"
MARKERS: tuple[str, ...] = (BEGIN, END)
TRIGGER = BEGIN
SYNTAXES = (CallSyntax('{"name": "{name}", "arguments": ', "}", between=", ", begin=BEGIN + "[", end="]"),)


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package."""
    return read_tagged(source, out, tools, BEGIN, END)
