"""Behaviours 7 to 9: requests that load or unload a model, and keep-alive."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.api_server import RunningServer, Serve
from support.ollama_requests import conversation, lines, question


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"model": "fake"}),
        ("/api/generate", {"model": "fake", "prompt": ""}),
        ("/api/chat", {"model": "fake"}),
        ("/api/chat", {"model": "fake", "messages": []}),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_7_nothing_to_say_loads_the_model(serve: Serve, path: str, body: dict[str, Any], stream: bool) -> None:
    server = serve(wait_ready=False, load_delay_s=0.05)
    (answer,) = lines(server.post(path, {**body, "stream": stream}))
    assert (answer["done"], answer["done_reason"], answer["model"]) == (True, "load", "fake")
    assert server.engines, "the model was not loaded"
    text = answer["response"] if path == "/api/generate" else answer["message"]["content"]
    assert text == ""


@pytest.mark.parametrize(
    ("path", "empty"), [("/api/generate", {"prompt": ""}), ("/api/chat", {"messages": []})], ids=["generate", "chat"]
)
@pytest.mark.parametrize("keep_alive", [0, "0", "0s", 0.0])
def test_8_nothing_to_say_and_keep_alive_0_unloads_the_model(
    serve: Serve, path: str, empty: dict[str, Any], keep_alive: Any
) -> None:
    server = serve()
    assert len(server.get("/api/ps").json()["models"]) == 1
    (answer,) = lines(server.post(path, {"model": "fake", **empty, "keep_alive": keep_alive}))
    assert (answer["done"], answer["done_reason"]) == (True, "unload")
    assert server.get("/api/ps").json()["models"] == []
    assert server.backend.closed


@pytest.mark.parametrize(
    ("keep_alive", "seconds"),
    [(90, 90), ("90", 90), ("2m", 120), ("1h30m", 5400), (0.5, 0.5), (-1, None), ("-1m", None)],
)
def test_9_keep_alive_sets_when_the_model_expires(
    parrots: RunningServer, keep_alive: Any, seconds: float | None
) -> None:
    parrots.post("/api/chat", conversation("hi", keep_alive=keep_alive))
    (model,) = parrots.get("/api/ps").json()["models"]
    left = datetime.fromisoformat(model["expires_at"]) - datetime.now(UTC)
    parrots.post("/api/chat", {"model": "fake", "keep_alive": -1})
    if seconds is None:
        assert left > timedelta(days=200 * 365)
    else:
        assert abs(left - timedelta(seconds=seconds)) < timedelta(seconds=10)


def test_9_a_request_without_keep_alive_leaves_it_as_it_is(serve: Serve) -> None:
    server = serve()
    server.post("/api/chat", {"model": "fake", "keep_alive": 90})
    server.post("/api/generate", question("hi"))
    server.post("/api/show", {"model": "fake"})
    (model,) = server.get("/api/ps").json()["models"]
    left = datetime.fromisoformat(model["expires_at"]) - datetime.now(UTC)
    assert abs(left - timedelta(seconds=90)) < timedelta(seconds=10)
