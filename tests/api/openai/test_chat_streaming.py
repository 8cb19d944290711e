"""Chat completions, streamed: what the chunks say, and what clients make of them."""

import json
import time
from typing import Any

import httpx
import openai
import pytest

from pagemill.backends.fake import EOS, FakeBackend
from pagemill.engine.engine import EngineConfig
from support.api_server import RunningServer, Serve, wait_until
from support.openai_requests import HELLO, chunks, events, joined

TEXT = "The quick brown fox jumps over the lazy dog."


def ask(server: RunningServer, **fields: object) -> list[dict[str, Any]]:
    return chunks(server.post("/v1/chat/completions", {"messages": HELLO, "temperature": 0, "stream": True, **fields}))


def test_id_created_model_and_fingerprint_are_one_value(server: RunningServer) -> None:
    parts = ask(server)
    assert {part["object"] for part in parts} == {"chat.completion.chunk"}
    for name in ("id", "created", "model", "system_fingerprint"):
        assert len({part[name] for part in parts}) == 1


def test_headers_keep_proxies_from_buffering(server: RunningServer) -> None:
    response = server.post("/v1/chat/completions", {"messages": HELLO, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-request-id"]


def test_stop_string_never_shows_in_the_stream(server: RunningServer) -> None:
    parts = ask(server, stop="brown")
    assert joined(parts) == "The quick "
    assert parts[-1]["choices"][0]["stop_reason"] == "brown"


@pytest.mark.parametrize("text", ["naïve 🙂 日本語", 'quotes " and \\ and \n lines', "\x00\x1f\x7f\u2028\u2029"])
def test_any_text_survives_the_wire(serve: Serve, text: str) -> None:
    server = serve(FakeBackend(reply=lambda prompt: [*text.encode(), EOS]))
    assert joined(ask(server)) == text


def test_sync_client_streams(server: RunningServer) -> None:
    stream = server.client().chat.completions.create(
        model="fake",
        messages=[{"role": "user", "content": "hi"}],
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    parts = list(stream)
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == TEXT
    assert parts[-1].usage is not None
    assert parts[-1].usage.completion_tokens == len(TEXT) + 1


async def test_async_client_streams(server: RunningServer) -> None:
    async with server.async_client() as client:
        stream = await client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "hi"}], temperature=0, stream=True
        )
        assert "".join([part.choices[0].delta.content or "" async for part in stream]) == TEXT


def test_clients_stream_helper_rebuilds_the_completion(server: RunningServer) -> None:
    with server.client().chat.completions.stream(
        model="fake", messages=[{"role": "user", "content": "hi"}], temperature=0
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == TEXT
    assert final.choices[0].finish_reason == "stop"


def test_logprobs_of_the_stream_are_those_of_the_unstreamed_answer(server: RunningServer) -> None:
    fields = {"logprobs": True, "top_logprobs": 2, "max_tokens": 6}
    streamed = [
        entry
        for part in ask(server, **fields)
        for entry in (part["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    body = {"messages": HELLO, "temperature": 0, **fields}
    unstreamed = server.post("/v1/chat/completions", body).json()["choices"][0]["logprobs"]["content"]
    assert streamed == unstreamed
    assert len(streamed) == 6


def test_token_ids_are_streamed_when_asked_for(server: RunningServer) -> None:
    parts = ask(server, return_token_ids=True, max_tokens=4)
    assert parts[0]["prompt_token_ids"]
    assert [token for part in parts for token in part["choices"][0].get("token_ids", [])] == list(b"The ")


def test_first_chunk_comes_before_the_last_token_is_made(serve: Serve) -> None:
    server = serve(FakeBackend(step_delay_s=0.02))
    start = time.monotonic()
    with httpx.stream(
        "POST", server.url + "/v1/chat/completions", json={"messages": HELLO, "temperature": 0, "stream": True}
    ) as response:
        lines = response.iter_lines()
        next(lines)
        first = time.monotonic() - start
        assert len(list(lines)) > 40
    assert first < (time.monotonic() - start) / 2


def test_error_in_mid_stream_raises_api_error_in_the_client(serve: Serve) -> None:
    def fail(plan: Any) -> str | None:
        return "the device is gone" if plan.step_id > 8 and plan.chunks else None

    server = serve(FakeBackend(fail_on=fail))
    stream = server.client().chat.completions.create(
        model="fake", messages=[{"role": "user", "content": "hi"}], temperature=0, stream=True
    )
    pieces: list[str] = []
    with pytest.raises(openai.APIError, match="the device is gone"):
        pieces.extend(part.choices[0].delta.content or "" for part in stream)
    text = "".join(pieces)
    assert TEXT.startswith(text)
    assert text
    wait_until(lambda: server.engine.num_unfinished() == 0)


def test_error_event_is_the_last_one_and_no_done_follows(serve: Serve) -> None:
    server = serve(FakeBackend(step_delay_s=0.02), config=EngineConfig(request_timeout_s=0.2))
    data = events(server.post("/v1/chat/completions", {"messages": HELLO, "stream": True, "ignore_eos": True}))
    assert json.loads(data[-1])["error"]["code"] == "timeout"
    assert "[DONE]" not in data


def test_error_before_the_first_token_has_its_real_status(serve: Serve) -> None:
    server = serve(FakeBackend(fail_on=lambda plan: "broken" if plan.chunks else None))
    response = server.post("/v1/chat/completions", {"messages": HELLO, "stream": True})
    assert response.status_code == 500
    assert response.json()["error"] == {
        "message": response.json()["error"]["message"],
        "type": "server_error",
        "param": None,
        "code": "backend_error",
    }


def test_invalid_stream_request_is_a_plain_400(server: RunningServer) -> None:
    response = server.post("/v1/chat/completions", {"messages": HELLO, "stream": True, "temperature": -1})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"


def test_long_chat_is_rendered_and_tokenized_off_the_event_loop(serve: Serve) -> None:
    server = serve(FakeBackend(max_model_len=20_000))
    body = {"messages": [{"role": "user", "content": "x" * 10_000}], "max_tokens": 1}
    assert server.post("/v1/chat/completions", body).json()["usage"]["prompt_tokens"] == 10_019
