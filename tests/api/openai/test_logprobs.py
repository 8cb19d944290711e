"""Logprobs of both dialect objects: counts, values, bytes and offsets."""

import math
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagemill.api.openai.logprobs import LOWEST, TextLogprobs, chat_logprobs, joined
from pagemill.backends.fake import BOS, EOS, FakeBackend, FakeTokenizer
from pagemill.generation import TokenLogprob, TokenLogprobs
from support.api_server import RunningServer, Serve

TEXT = "The quick brown fox jumps over the lazy dog."
HELLO = [{"role": "user", "content": "hi"}]


def chat(server: RunningServer, **fields: object) -> httpx.Response:
    return server.post("/v1/chat/completions", {"messages": HELLO, "temperature": 0, "max_tokens": 5, **fields})


def completion_logprobs(server: RunningServer, prompt: object = "hi", **fields: object) -> dict[str, Any]:
    response = server.post("/v1/completions", {"prompt": prompt, "temperature": 0, "max_tokens": 5, **fields})
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    assert isinstance(choice["logprobs"], dict)
    return {**choice["logprobs"], "text": choice["text"]}


@pytest.mark.parametrize("count", [1, 5, 20])
def test_chat_top_logprobs_are_exactly_as_many_and_descending(server: RunningServer, count: int) -> None:
    for entry in chat(server, logprobs=True, top_logprobs=count).json()["choices"][0]["logprobs"]["content"]:
        values = [top["logprob"] for top in entry["top_logprobs"]]
        assert len(values) == count
        assert values == sorted(values, reverse=True)
        assert all(-9999 <= value <= 0 for value in values)
        assert entry["top_logprobs"][0]["token"] == entry["token"]


def test_chat_bytes_are_the_tokens_own_utf8(serve: Serve) -> None:
    server = serve(FakeBackend(reply=lambda prompt: [*"é🙂".encode(), EOS]))
    choice = chat(server, logprobs=True, max_tokens=10).json()["choices"][0]
    content = choice["logprobs"]["content"]
    data = b"".join(bytes(entry["bytes"]) for entry in content if entry["token"] != "<|im_end|>")
    assert data.decode() == choice["message"]["content"] == "é🙂"


def test_official_client_reads_chat_logprobs(server: RunningServer) -> None:
    answer = server.client().chat.completions.create(
        model="fake", messages=[{"role": "user", "content": "hi"}], temperature=0, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert logprobs.content[0].token == "T"
    assert len(logprobs.content[0].top_logprobs) == 2
    assert answer.usage is not None
    assert len(logprobs.content) == answer.usage.completion_tokens


def test_completion_logprobs_0_give_the_sampled_token(server: RunningServer) -> None:
    logprobs = completion_logprobs(server, logprobs=0)
    assert logprobs["tokens"] == list("The q")
    assert [list(top) for top in logprobs["top_logprobs"]] == [[token] for token in "The q"]
    assert [list(top.values()) for top in logprobs["top_logprobs"]] == [[v] for v in logprobs["token_logprobs"]]


def test_echoed_prompt_has_logprobs_and_the_first_is_null(server: RunningServer) -> None:
    logprobs = completion_logprobs(server, list(b"abc"), echo=True, logprobs=1)
    assert logprobs["tokens"] == list("abcThe q")
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert all(value <= 0 for value in logprobs["token_logprobs"][1:])
    assert logprobs["text_offset"] == list(range(8))


def test_offsets_point_at_the_tokens_in_the_text(serve: Serve) -> None:
    server = serve(FakeBackend(reply=lambda prompt: [*"aé🙂b".encode(), EOS]))
    logprobs = completion_logprobs(server, "hé", echo=True, logprobs=0, max_tokens=20)
    assert logprobs["text"] == "héaé🙂b"
    at = dict(zip(logprobs["tokens"], logprobs["text_offset"], strict=True))
    assert (at["<|bos|>"], at["h"], at["b"]) == (0, 0, 5)
    assert at["a"] == 2
    assert logprobs["tokens"][-1] == "<|im_end|>"
    assert logprobs["text_offset"][-1] == 6


def test_tokens_that_are_no_whole_character_stay_distinct(serve: Serve) -> None:
    server = serve(FakeBackend(reply=lambda prompt: [*"é".encode(), EOS]))
    assert completion_logprobs(server, logprobs=0)["tokens"][:2] == ["bytes:\\xc3", "bytes:\\xa9"]


def test_streamed_pieces_are_the_unstreamed_lists(server: RunningServer) -> None:
    fields = {"echo": True, "logprobs": 2, "max_tokens": 6, "temperature": 0}
    whole = completion_logprobs(server, "hi", **fields)
    stream = server.client().completions.create(model="fake", prompt="hi", stream=True, extra_body=fields)
    parts = [part.choices[0].logprobs.model_dump() for part in stream if part.choices[0].logprobs]
    pieces = joined(parts)
    assert {name: whole[name] for name in pieces} == pieces


def test_minus_infinity_becomes_minus_9999() -> None:
    entry = TokenLogprobs(65, -math.inf, (TokenLogprob(66, -math.inf),))
    shown = chat_logprobs(FakeTokenizer(), [entry])["content"][0]
    assert shown["logprob"] == shown["top_logprobs"][0]["logprob"] == LOWEST
    lists = TextLogprobs(FakeTokenizer(), count=1, skip_special_tokens=True).of_output([entry])
    assert lists["token_logprobs"] == [LOWEST]


@given(prompt=st.text(max_size=20), output=st.text(max_size=20), cut=st.integers(0, 80))
def test_offsets_do_not_depend_on_where_the_stream_is_cut(prompt: str, output: str, cut: int) -> None:
    tokenizer = FakeTokenizer()
    prompt_ids, output_ids = [BOS, *prompt.encode()], [*output.encode(), EOS]
    entries = [TokenLogprobs(token_id, -1.0, ()) for token_id in output_ids]

    def pieces(*bounds: int) -> dict[str, Any]:
        writer = TextLogprobs(tokenizer, count=0, skip_special_tokens=True)
        parts = [writer.of_prompt(prompt, prompt_ids, [None] * len(prompt_ids))]
        for start, end in zip((0, *bounds), (*bounds, len(entries)), strict=True):
            parts.append(writer.of_output(entries[start:end]))
        return joined(parts)

    whole = pieces()
    assert pieces(min(cut, len(entries))) == whole
    assert whole["text_offset"] == sorted(whole["text_offset"])
    assert whole["text_offset"][-1] == len(prompt + output)
