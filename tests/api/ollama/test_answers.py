"""Bodies that are refused, and times. What users rely on is in tests/behaviours."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from support.api_server import RunningServer
from support.ollama_requests import error, lines, question


def test_version_answers_get_and_head(parrots: RunningServer) -> None:
    assert httpx.head(parrots.url + "/api/version").status_code == 200
    assert parrots.get("/api/version").json().keys() == {"version"}


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
        (b'{"model": "fake", "shift": 1}', "shift"),
    ],
)
def test_a_wrong_body_is_400_and_names_the_field(parrots: RunningServer, path: str, body: bytes, named: str) -> None:
    assert named in error(httpx.post(parrots.url + path, content=body), 400)


def test_times_are_rfc3339_with_nanoseconds_and_go_up(parrots: RunningServer) -> None:
    times = [part["created_at"] for part in lines(parrots.post("/api/generate", question("hello")))]
    assert times == sorted(times)
    for text in times:
        assert len(text) == len("2026-11-23T05:00:00.123456789Z")
        assert abs(datetime.fromisoformat(text) - datetime.now(UTC)) < timedelta(minutes=1)
