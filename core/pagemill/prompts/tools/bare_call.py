"""Calls that are not marked, or only sometimes: they may begin wherever a line does. Owns no state."""

from collections.abc import Callable

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.text_source import Reading, TextSource, until

Attempt = Callable[[str], Reading[bool]]


def read_bare_calls(source: TextSource, out: EventWriter, tags: tuple[str, ...], attempt: Attempt) -> Reading[None]:
    """Have `attempt` read calls after a tag (which it is given), and where a line begins (then it is given ""). If it
    finds none there it must leave the source as it was; the tag, too, is then content.
    """
    tag: str | None = ""
    while tag is not None:
        if not (yield from attempt(tag)):
            out.content(tag)
        tag = yield from until(source, (*tags, "\n"), out.content)
        if tag == "\n":
            out.content(tag)
            tag = ""
