"""The parser of one answer: text goes in as it comes, out come reasoning, content and tool calls.

A `MessageParser` owns how far it has read. May not import a backend or HTTP.
"""

from collections.abc import Callable

from pagemill.prompts.message_events import Event, EventWriter
from pagemill.prompts.text_source import Reading, TextSource, until
from pagemill.prompts.tools import ReadTools, ToolSchemas, new_call_id

ReadReasoning = Callable[[TextSource, EventWriter], Reading[None]]


class MessageParser:
    """`feed` it an answer's text, and `finish` with the last. Wherever the text is cut, the same comes out."""

    __slots__ = ("_out", "_reading", "_source")

    def __init__(
        self,
        read_reasoning: ReadReasoning | None,
        read_tools: ReadTools | None,
        tools: ToolSchemas,
        *,
        new_id: Callable[[], str] = new_call_id,
        layout: tuple[str, ...] = (),
    ) -> None:
        """`read_reasoning` reads the beginning, `read_tools` the rest; None: there is no such thing in the answer, but
        texts of the `layout` that are left out of the content.
        """
        self._source = TextSource()
        self._out = EventWriter(has_tools=read_tools is not None, new_id=new_id)
        self._reading = self._read(read_reasoning, read_tools, tools, layout)
        next(self._reading, None)

    @property
    def reasons(self) -> bool:
        """Whether what comes next is reasoning, as far as can be told."""
        return self._out.reasons

    def feed(self, text: str) -> list[Event]:
        """What the next piece of text brings."""
        if not text:
            return []
        self._source.add(text)
        next(self._reading, None)
        return self._out.take()

    def finish(self, text: str = "") -> list[Event]:
        """What the last piece of text brings, and what was held back: the answer is at its end."""
        self._source.add(text)
        self._source.ended = True
        for _wait in self._reading:
            raise AssertionError("a reader waits at the end of the text")
        self._out.finish()
        return self._out.take()

    def _read(
        self,
        read_reasoning: ReadReasoning | None,
        read_tools: ReadTools | None,
        tools: ToolSchemas,
        layout: tuple[str, ...],
    ) -> Reading[None]:
        if read_reasoning is not None:
            yield from read_reasoning(self._source, self._out)
        if read_tools is not None:
            yield from read_tools(self._source, self._out, tools)
        while (yield from until(self._source, layout, self._out.content)) is not None:
            pass
