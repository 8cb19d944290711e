"""Reading a model's answer in pieces, and the events that come out with neighbouring ones joined."""

import itertools
from collections.abc import Callable, Iterable, Sequence

from hypothesis import strategies as st

from pagemill.prompts.message_events import Content, Event, Reasoning, ToolCallArguments, ToolCallStart
from pagemill.prompts.message_parser import MessageParser, ReadReasoning
from pagemill.prompts.tools import ReadTools, ToolSchemas, tool_format

TOOLS: ToolSchemas = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "metric": {"type": "boolean"},
            "tags": {"type": "array"},
            "note": {"type": ["string", "null"]},
            "place": {"type": "object"},
        },
    },
    "get_time": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def read(
    pieces: Iterable[str],
    *,
    tools: ReadTools | None = None,
    reasoning: ReadReasoning | None = None,
    schemas: ToolSchemas = TOOLS,
    to_the_end: bool = True,
) -> list[Event]:
    """The events of the text in these pieces, to its end or so far. Ids are call0, call1, ..."""
    numbers = itertools.count()
    parser = MessageParser(reasoning, tools, schemas, new_id=lambda: f"call{next(numbers)}")
    events = [event for piece in pieces for event in parser.feed(piece)]
    return joined([*events, *(parser.finish() if to_the_end else ())])


def read_format(name: str, text: str) -> list[Event]:
    """The events of a text that is read whole."""
    return read([text], tools=tool_format(name).read)


def joined(events: Sequence[Event]) -> list[Event]:
    found: list[Event] = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, ToolCallArguments) and isinstance(last, ToolCallArguments):
            assert event.call_index == last.call_index, "the arguments of two calls without a start between them"
            found[-1] = ToolCallArguments(last.call_index, last.text + event.text)
        elif isinstance(event, Content) and isinstance(last, Content):
            found[-1] = Content(last.text + event.text)
        elif isinstance(event, Reasoning) and isinstance(last, Reasoning):
            found[-1] = Reasoning(last.text + event.text)
        else:
            found.append(event)
    return found


def call(index: int, name: str, arguments: str) -> list[Event]:
    """The events of one whole call."""
    return [ToolCallStart(index, f"call{index}", name), ToolCallArguments(index, arguments)]


@st.composite
def cut(draw: st.DrawFn, text: str) -> list[str]:
    """The text in pieces."""
    at = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    return [text[start:end] for start, end in itertools.pairwise([0, *at, len(text)])]


def scrambled(text: str, markers: Sequence[str]) -> st.SearchStrategy[str]:
    """Texts made of the parts of a real one, and of markers, in any order: nearly right, and wrong in every way."""
    parts: Callable[[str], list[str]] = lambda whole: [whole[at : at + 7] for at in range(0, len(whole), 7)]  # noqa: E731
    return st.lists(st.sampled_from([*parts(text), *markers, "{", "}", '"', "\\", "\n", "é😀", "x"])).map("".join)
