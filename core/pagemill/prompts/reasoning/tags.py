"""Reading the reasoning that comes before an answer. Owns no state."""

from pagemill.prompts.message_events import EventWriter
from pagemill.prompts.reasoning import ReasoningTags
from pagemill.prompts.text_source import Reading, TextSource, accept, skip_space, until


def read_reasoning(source: TextSource, out: EventWriter, tags: ReasoningTags, *, is_open: bool) -> Reading[None]:
    """Read up to the answer itself. If the text begins with something else than an opening, nothing is read."""
    out.reasons = is_open
    source.mark()
    yield from skip_space(source)
    if (yield from accept(source, *tags.openings)) is None and not is_open:
        source.rewind()
        return
    source.commit()
    out.begin_reasoning()
    yield from skip_space(source)
    if (yield from until(source, tags.closings, out.reasoning)) is not None:
        out.end_reasoning()
        yield from skip_space(source)
