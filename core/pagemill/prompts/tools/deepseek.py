"""DeepSeek V3, R1 and V3.1: each call between its own pair of special tokens. Until V3.1 the arguments are fenced.

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather
    ```json
    {"city": "Paris"}
    ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜>...

Source: the models' chat templates. Owns no state.
"""

import re

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, accept, next_char, skip_space, take_while, until
from pagemill.prompts.tools import CallSyntax, ToolSchemas
from pagemill.prompts.tools.json_call import read_value

CALLS_BEGIN, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
BEGIN, SEPARATOR, END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
MARKERS: tuple[str, ...] = (CALLS_BEGIN, CALLS_END, BEGIN, SEPARATOR, END)
TRIGGER = CALLS_BEGIN
SYNTAXES = (
    CallSyntax(
        f"{BEGIN}function{SEPARATOR}{{name}}\n```json\n", f"\n```{END}", between="\n", begin=CALLS_BEGIN, end=CALLS_END
    ),
    CallSyntax(f"{BEGIN}{{name}}{SEPARATOR}", END, begin=CALLS_BEGIN, end=CALLS_END),
)
NAME = re.compile(r"[^\s<{`]*")
FENCE = re.compile(r"[\s`]*")


def read(source: TextSource, out: EventWriter, tools: ToolSchemas) -> Reading[None]:
    """See the package. The tokens around all calls are layout; a missing one does no harm."""
    while (marker := (yield from until(source, (CALLS_BEGIN, CALLS_END, BEGIN), out.content))) is not None:
        if marker != BEGIN:
            continue
        source.mark()
        if not (yield from _begin_call(source, out)):
            source.rewind()
            out.content(BEGIN)
        elif (yield from read_value(source, out.arguments)):
            yield from take_while(source, FENCE)
            yield from accept(source, END)
        else:
            yield from until(source, (END,), out.arguments)


def _begin_call(source: TextSource, out: EventWriter) -> Reading[bool]:
    """Read up to the arguments; False: this is no call."""
    name = yield from take_while(source, NAME)
    if not (yield from accept(source, SEPARATOR)):
        return False
    if (yield from next_char(source)) != "{":  # what stood before was the kind of call
        name = yield from take_while(source, NAME)
        yield from skip_space(source)
        yield from accept(source, "```json")
        yield from skip_space(source)
    if not name or (yield from next_char(source)) != "{":
        return False
    out.start_call(name)
    source.commit()
    return True
