"""Llama 3.1 to 3.3: a bare JSON object, perhaps after `<|python_tag|>`; several are separated by semicolons.

    {"name": "get_weather", "parameters": {"city": "Paris"}}

Source: the models' chat templates. Nothing but the name tells a call from an answer in JSON, so without the tag only
the names of tools count. Lists of calls are read, too. Owns no state.
"""

import re
from functools import partial

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, copy_all, next_char, skip_space, take_while
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.bare_call import read_bare_calls
from pagemill.prompts.tools.json_call import Outcome, read_call, read_calls

TAG = "<|python_tag|>"
MARKERS: tuple[str, ...] = (TAG,)
TRIGGER = ""  # the tag may be missing
SYNTAXES = (CallSyntax('{"name": "{name}", "parameters": ', "}", between="; "),)
BETWEEN = re.compile(r"[\s;,]*")


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package."""
    yield from read_bare_calls(source, out, MARKERS, partial(_attempt, source, out, tools))


def _attempt(source: TextSource, out: EventWriter, tools: ToolSchemas, tag: str) -> Reading[bool]:
    source.mark()
    if tag:
        yield from skip_space(source)
    found = False
    while True:
        reader = read_calls if (yield from next_char(source)) == "[" else read_call
        outcome = yield from reader(source, out, tools, known_only=not tag)
        if outcome is Outcome.NO_CALL:
            source.rewind()
            return found
        if outcome is Outcome.BROKEN:
            yield from copy_all(source, out.arguments)
            return True
        found = True
        source.mark()
        yield from take_while(source, BETWEEN)
