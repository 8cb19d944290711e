"""MiniMax M1, Jamba and Hunyuan A13B: JSON objects on lines of their own, or in a list, between `<tool_calls>` tags.

    <tool_calls>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    {"name": "get_time", "arguments": {"city": "Rome"}}
    </tool_calls>

Source: the chat templates of MiniMaxAI/MiniMax-M1 and ai21labs/AI21-Jamba-1.5. Owns no state.
"""

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.tagged_json import read_tagged

BEGIN, END = "<tool_calls>", "</tool_calls>"
MARKERS: tuple[str, ...] = (BEGIN, END)
TRIGGER = BEGIN
SYNTAXES = (
    CallSyntax('{"name": "{name}", "arguments": ', "}\n", begin=BEGIN + "\n", end=END),
    CallSyntax('{"name": "{name}", "arguments": ', "}", between=", ", begin=BEGIN + "[", end="]" + END),
)


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package."""
    return read_tagged(source, out, tools, BEGIN, END)
