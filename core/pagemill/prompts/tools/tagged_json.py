"""Calls that are JSON between two tags: what many families have in common. Owns no state."""

import re

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, accept, next_char, skip_space, take_while, until
from pagemill.prompts.tools import ToolSchemas
from pagemill.prompts.tools.json_call import Outcome, read_call, read_calls

SURPLUS = re.compile(r"[\s}]*")  # models miscount closing braces


def read_tagged(
    source: TextSource, out: EventWriter, tools: ToolSchemas, begin: str, end: str, layout: tuple[str, ...] = ()
) -> Reading[None]:
    """A pair of tags holds one call, several one after the other, or a list of them; the end tag may be missing. Texts
    of the `layout` are left out of the content.
    """
    while (marker := (yield from until(source, (begin, *layout), out.content))) is not None:
        if marker != begin:
            continue
        source.mark()
        yield from skip_space(source)
        is_list = (yield from next_char(source)) == "["
        outcome = yield from (read_calls if is_list else _read_objects)(source, out, tools)
        if outcome is Outcome.NO_CALL:
            source.rewind()
            out.content(begin)
        elif outcome is Outcome.BROKEN:
            yield from until(source, (end,), out.arguments)
        else:
            yield from take_while(source, SURPLUS)
            yield from accept(source, end)


def _read_objects(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[Outcome]:
    """Calls from the first one's brace on. One that is no call ends them, and is not read."""
    outcome = yield from read_call(source, out, tools)
    while outcome is Outcome.CALL:
        source.commit()
        yield from take_while(source, SURPLUS)
        if (yield from next_char(source)) != "{":
            break
        source.mark()
        outcome = yield from read_call(source, out, tools)
        if outcome is Outcome.NO_CALL:
            source.rewind()
            return Outcome.CALL
    return outcome
