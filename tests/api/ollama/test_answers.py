"""Behaviours 1 to 5 of the list of twenty-five that users of Ollama rely on: routes, bodies, lines and metrics."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from support.api_server import RunningServer
from support.ollama_requests import GREEDY, conversation, error, lines, question

DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
COUNTS = ("prompt_eval_count", "eval_count")


@pytest.mark.parametrize("path", ["/", "/api/version"])
def test_1_root_and_version_answer_get_and_head(parrots: RunningServer, path: str) -> None:
    assert httpx.head(parrots.url + path).status_code == 200
    response = parrots.get(path)
    assert response.status_code == 200
    assert response.text == "Pagemill is running" if path == "/" else response.json().keys() == {"version"}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/chat"), ("DELETE", "/api/generate"), ("POST", "/api/tags"), ("PUT", "/api/show"), ("POST", "/")],
)
def test_1_a_wrong_method_is_405(parrots: RunningServer, method: str, path: str) -> None:
    response = httpx.request(method, parrots.url + path)
    assert response.status_code == 405
    assert response.headers["allow"]


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/show"])
def test_2_an_empty_body_is_400_in_ollamas_shape(parrots: RunningServer, path: str) -> None:
    assert error(httpx.post(parrots.url + path), 400) == "missing request body"


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"model": ', "not valid JSON"),
        (b"[]", "request body"),
        (b'{"model": 1}', "model"),
        (b'{"model": "fake", "stream": "yes"}', "stream"),
        (b'{"model": "fake", "options": []}', "options"),
        (b'{"model": "fake", "keep_alive": "soon"}', "keep_alive"),
        (b'{"model": "fake", "options": {"top_k": "many"}}', 'option "top_k"'),
        (b'{"model": "fake", "width": 512}', "width is not supported"),
        (b'{"model": "fake", "shift": true}', "shift: true is not supported"),
    ],
)
def test_2_a_wrong_body_is_400_and_names_the_field(parrots: RunningServer, path: str, body: bytes, named: str) -> None:
    assert named in error(httpx.post(parrots.url + path, content=body), 400)


def test_3_generate_streams_ndjson_unless_told_otherwise(parrots: RunningServer) -> None:
    streamed = parrots.post("/api/generate", question("Grüße 👋"))
    assert streamed.headers["content-type"] == "application/x-ndjson"
    whole = parrots.post("/api/generate", question("Grüße 👋", stream=False))
    assert whole.headers["content-type"] == "application/json"
    parts = lines(streamed)
    assert len(parts) > 2
    assert "".join(part["response"] for part in parts) == whole.json()["response"] == "Grüße 👋"
    assert whole.json().keys() == parts[-1].keys()


def test_3_chat_streams_ndjson_unless_told_otherwise(parrots: RunningServer) -> None:
    parts = lines(parrots.post("/api/chat", conversation("Grüße 👋")))
    whole = parrots.post("/api/chat", conversation("Grüße 👋", stream=False)).json()
    assert "".join(part["message"]["content"] for part in parts) == "Grüße 👋"
    assert whole["message"] == {"role": "assistant", "content": "Grüße 👋"}
    assert whole.keys() == parts[-1].keys()


def test_4_lines_before_the_last_have_model_time_text_and_done_false(parrots: RunningServer) -> None:
    *parts, _ = lines(parrots.post("/api/generate", question("hello")))
    for part in parts:
        assert part.keys() == {"model", "created_at", "response", "done"}
        assert (part["model"], part["done"]) == ("fake", False)
    *parts, _ = lines(parrots.post("/api/chat", conversation("hello") | {"model": "fake:latest"}))
    for part in parts:
        assert part.keys() == {"model", "created_at", "message", "done"}
        assert part["message"].keys() == {"role", "content"}
        assert (part["model"], part["message"]["role"]) == ("fake:latest", "assistant")


def test_4_times_are_rfc3339_with_nanoseconds_and_go_up(parrots: RunningServer) -> None:
    times = [part["created_at"] for part in lines(parrots.post("/api/generate", question("hello")))]
    assert times == sorted(times)
    for text in times:
        assert len(text) == len("2026-11-23T05:00:00.123456789Z")
        assert abs(datetime.fromisoformat(text) - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_5_the_last_line_has_every_metric_and_none_is_zero(parrots: RunningServer, path: str, stream: bool) -> None:
    ask = question if path == "/api/generate" else conversation
    last = lines(parrots.post(path, ask("hello", stream=stream)))[-1]
    assert (last["done"], last["done_reason"]) == (True, "stop")
    for name in (*DURATIONS, *COUNTS):
        assert isinstance(last[name], int)
        assert last[name] > 0
    assert last["total_duration"] >= last["prompt_eval_duration"] + last["eval_duration"]
    assert last["eval_count"] == len(b"hello") + 1, "the answer and its end"


def test_5_an_answer_that_is_cut_ends_with_length(parrots: RunningServer) -> None:
    body = conversation("a long answer", options={**GREEDY, "num_predict": 4}, stream=False)
    last = parrots.post("/api/chat", body).json()
    assert last["message"]["content"] == "a lo"
    assert (last["done_reason"], last["eval_count"]) == ("length", 4)


def test_5_cached_prompt_tokens_are_counted(parrots: RunningServer) -> None:
    body = conversation("count me twice " * 20, stream=False)
    first, second = (parrots.post("/api/chat", body).json() for _ in range(2))
    assert parrots.engine.stats().cached_prompt_tokens > 0
    assert first["prompt_eval_count"] == second["prompt_eval_count"] > 300
