"""Chunks by themselves: the rendered-once frames say exactly what a whole rendering would."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pagemill.api.openai.chunks import DONE, ChunkWriter, error_event
from pagemill.api.openai.envelope import Envelope
from pagemill.api.openai.usage import UsageTally
from pagemill.api.server_events import sse
from pagemill.errors import BackendError
from pagemill.generation import Delta, FinishReason, TokenLogprobs, Usage
from pagemill.prompts.message_events import Content, Event

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


class Style:
    """Chat's, in short."""

    chunk_kind = "chat.completion.chunk"

    def opening(self, number: int, delta: Delta) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return [({"delta": {"role": "assistant", "content": ""}}, {})]

    def fields(self, event: Event) -> dict[str, Any]:
        assert isinstance(event, Content)
        return {"delta": {"content": event.text}}

    def finish(self) -> dict[str, Any]:
        return {"delta": {}}

    def finish_reason(self, number: int, reason: FinishReason) -> str:
        return reason

    def logprobs(self, number: int, entries: Sequence[TokenLogprobs]) -> dict[str, Any] | None:
        return None


def writer(model: str = "m", *, plain: bool = True, usage: bool = False, num_choices: int = 2) -> ChunkWriter:
    return ChunkWriter(
        Envelope("chatcmpl-1", 5, model, "fp_1"),
        Style(),
        UsageTally([3], num_choices),
        num_choices=num_choices,
        plain=plain,
        usage=usage,
        continuous_usage=False,
        token_ids=False,
    )


def write(chunks: ChunkWriter, delta: Delta) -> bytes:
    return chunks.write(delta.choice_index, delta, [Content(delta.text)] if delta.text else [])


def delta(text: str, index: int = 0, finish: FinishReason | None = None, num_tokens: int = 1) -> Delta:
    return Delta(index, text, (1,), Usage(3, num_tokens, 0), finish_reason=finish)


def parsed(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(part.removeprefix(b"data: ")) for part in data.split(b"\n\n") if part]


@given(texts=st.lists(TEXT, min_size=2, max_size=4), model=st.text(max_size=10), usage=st.booleans())
def test_frames_give_the_bytes_of_a_whole_rendering(texts: list[str], model: str, usage: bool) -> None:
    fast, full = writer(model, plain=True, usage=usage), writer(model, plain=False, usage=usage)
    for text in texts:
        assert write(fast, delta(text, 1)) == write(full, delta(text, 1))


@given(texts=st.lists(TEXT, min_size=1, max_size=4), model=st.text(max_size=10))
def test_any_text_and_model_name_come_through(texts: list[str], model: str) -> None:
    chunks = writer(model)
    parts = parsed(b"".join(write(chunks, delta(text)) for text in texts))
    assert [part["choices"][0]["delta"]["content"] for part in parts] == ["", *texts]
    assert {part["model"] for part in parts} == {model}


def test_held_text_gives_no_chunk() -> None:
    chunks = writer()
    write(chunks, delta("a"))
    assert write(chunks, delta("")) == b""


def test_last_text_comes_before_the_finish_chunk() -> None:
    chunks = writer()
    first, text, finish = parsed(write(chunks, delta("all", finish=FinishReason.STOP)))
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert (text["choices"][0]["delta"], text["choices"][0]["finish_reason"]) == ({"content": "all"}, None)
    assert (finish["choices"][0]["delta"], finish["choices"][0]["finish_reason"]) == ({}, "stop")


def test_end_without_usage_is_done_alone() -> None:
    assert writer().end() == DONE


def test_end_with_usage_sums_the_choices() -> None:
    chunks = writer(usage=True)
    chunks.write(0, delta("a", 0, num_tokens=4), [Content("a")], num_reasoning_tokens=2)
    chunks.write(1, delta("b", 1, num_tokens=6), [Content("b")], num_reasoning_tokens=3)
    data = chunks.end()
    assert data.endswith(DONE)
    last = parsed(data.removesuffix(DONE))[0]
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 10,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }


def test_events_are_one_line() -> None:
    assert sse({"a": "x\ny\u2028"}).count(b"\n") == 2
    assert parsed(error_event(BackendError("gone\nfor ever"))) == [
        {"error": {"message": "gone\nfor ever", "type": "server_error", "param": None, "code": "backend_error"}}
    ]
