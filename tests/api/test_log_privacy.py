"""What a server logs, at the most talkative level, holds nothing of what its clients said or were told."""

import logging
from typing import Any

import pytest

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, Serve, wait_until

SECRET = "swordfish"
KEY = "sk-the-key"
MESSAGES = [{"role": "system", "content": SECRET}, {"role": "user", "content": SECRET}]
HEADERS = {"authorization": f"Bearer {KEY}"}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": MESSAGES}),
    ("/v1/chat/completions", {"messages": MESSAGES, "stream": True}),
    ("/v1/chat/completions", {"messages": MESSAGES, "temperature": SECRET}),
    ("/v1/chat/completions", {"messages": SECRET}),
    ("/v1/chat/completions", {"messages": MESSAGES, SECRET: 1}),
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 10**6}),
    ("/v1/completions", {"prompt": SECRET, "stop": SECRET}),
    ("/v1/completions", {"prompt": [SECRET, 1]}),
    ("/api/chat", {"model": "fake", "messages": MESSAGES}),
    ("/api/chat", {"model": "fake", "messages": MESSAGES, "options": {"temperature": SECRET}}),
    ("/api/generate", {"model": "fake", "prompt": SECRET, "stream": False}),
    ("/api/generate", {"model": "fake", "prompt": SECRET, "raw": True, "system": SECRET}),
    ("/tokenize", {"prompt": SECRET}),
    ("/invocations", {"prompt": SECRET}),
]


@pytest.fixture
def server(serve: Serve) -> RunningServer:
    return serve(FakeBackend(reply=lambda prompt: [ord(letter) for letter in SECRET]), api_key=(KEY,))


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_no_prompt_answer_or_key_is_logged(
    server: RunningServer, caplog: pytest.LogCaptureFixture, path: str, body: dict[str, Any]
) -> None:
    with caplog.at_level(logging.DEBUG):
        server.post(path, body, headers=HEADERS)
        wait_until(lambda: f"POST {path} " in caplog.text)
    assert SECRET not in caplog.text
    assert KEY not in caplog.text


def test_a_wrong_key_is_not_logged(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        server.get("/v1/models", headers={"authorization": f"Bearer {SECRET}"})
        wait_until(lambda: "GET /v1/models 401" in caplog.text)
    assert SECRET not in caplog.text


def test_a_failed_step_is_logged_without_the_prompt(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(FakeBackend(fail_on=lambda plan: "broken" if plan.chunks else None))
    with caplog.at_level(logging.DEBUG):
        assert server.post("/v1/completions", {"prompt": SECRET}).status_code == 500
        wait_until(lambda: "POST /v1/completions 500" in caplog.text)
    assert "broken" in caplog.text
    assert SECRET not in caplog.text
