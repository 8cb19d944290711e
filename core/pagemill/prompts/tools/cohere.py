"""Cohere's Command R7B, A and later: a list of numbered JSON objects between special tokens.

    <|START_ACTION|>[
        {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Paris"}}
    ]<|END_ACTION|>

Source: the chat templates of CohereLabs/c4ai-command-r7b-12-2024 and command-a-reasoning-08-2025. Owns no state.
"""

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.reasoning import COHERE
from pagemill.prompts.text_source import Reading, TextSource
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.tagged_json import read_tagged

BEGIN, END = "<|START_ACTION|>", "<|END_ACTION|>"
MARKERS: tuple[str, ...] = (BEGIN, END)
TRIGGER = BEGIN
SYNTAXES = (
    CallSyntax(
        '{"tool_call_id": "{index}", "tool_name": "{name}", "parameters": ',
        "}",
        between=",\n    ",
        begin=BEGIN + "[\n    ",
        end="\n]" + END,
    ),
)


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package."""
    return read_tagged(source, out, tools, BEGIN, END, layout=COHERE.layout)
