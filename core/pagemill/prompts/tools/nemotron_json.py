"""Nemotron Nano 2 and the Llama Nemotrons: a list of JSON objects between `<TOOLCALL>` tags.

    <TOOLCALL>[{"name": "get_weather", "arguments": {"city": "Paris"}}]</TOOLCALL>

Source: the chat template of nvidia/NVIDIA-Nemotron-Nano-9B-v2. Owns no state.
"""

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.tagged_json import read_tagged

BEGIN, END = "<TOOLCALL>", "</TOOLCALL>"
MARKERS: tuple[str, ...] = (BEGIN, END)
TRIGGER = BEGIN
SYNTAXES = (CallSyntax('{"name": "{name}", "arguments": ', "}", between=", ", begin=BEGIN + "[", end="]" + END),)


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package."""
    return read_tagged(source, out, tools, BEGIN, END)
