"""Server-sent events as bytes."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pagemill.api.server_events import named_sse, sse


def test_events_are_named_by_their_type() -> None:
    events = [{"type": "a"}, {"type": "b.c", "text": "é\n"}]
    wanted = 'event: a\ndata: {"type":"a"}\n\nevent: b.c\ndata: {"type":"b.c","text":"é\\n"}\n\n'
    assert named_sse(events) == wanted.encode()
    assert named_sse([]) == b""


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_breaks_an_event(text: str) -> None:
    event = sse({"text": text})
    assert b"\n" not in event.removesuffix(b"\n\n")
    assert json.loads(event.removeprefix(b"data: ")) == {"text": text}
