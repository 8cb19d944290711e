"""How long a model stays loaded, beside the list of tests/behaviours."""

from datetime import UTC, datetime, timedelta

from support.api_server import Serve
from support.ollama_requests import question


def test_a_request_without_keep_alive_leaves_it_as_it_is(serve: Serve) -> None:
    server = serve()
    server.post("/api/chat", {"model": "fake", "keep_alive": 90})
    server.post("/api/generate", question("hi"))
    server.post("/api/show", {"model": "fake"})
    (model,) = server.get("/api/ps").json()["models"]
    left = datetime.fromisoformat(model["expires_at"]) - datetime.now(UTC)
    assert abs(left - timedelta(seconds=90)) < timedelta(seconds=10)
