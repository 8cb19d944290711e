"""Hermes, and with it Qwen 2.5 and 3, grist and many others: JSON objects between `<tool_call>` and `</tool_call>`.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

Source: the chat templates of NousResearch/Hermes-2-Pro and Qwen/Qwen2.5. Owns no state.
"""

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.tagged_json import read_tagged

BEGIN, END = "<tool_call>", "</tool_call>"
MARKERS: tuple[str, ...] = (BEGIN, END)
TRIGGER = BEGIN
SYNTAXES = (CallSyntax(BEGIN + '\n{"name": "{name}", "arguments": ', "}\n" + END, between="\n"),)


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package. One pair of tags may hold several calls."""
    return read_tagged(source, out, tools, BEGIN, END)
