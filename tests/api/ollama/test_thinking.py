"""Thinking in /api/chat and /api/generate, by a model that says what it is told."""

from typing import Any

import ollama
import pytest

from pagemill.backends.base import decode
from pagemill.backends.fake import EOS, FakeBackend, FakeTokenizer
from support.api_server import RunningServer, Serve, running_server
from support.chat_scripts import THINKING_TEMPLATE, scripted
from support.ollama_requests import GREEDY, conversation, error, lines, question

THOUGHT = "Let me see.\n</think>\n\nForty-two."


@pytest.fixture(scope="module")
def server() -> Any:
    with running_server(scripted(THINKING_TEMPLATE)) as running:
        yield running


def told_prompt(prompt: tuple[int, ...]) -> list[int]:
    """The end of the prompt, so that it can be seen what the template was told."""
    return [*b"</think>", *decode(FakeTokenizer(), prompt).rpartition("assistant\n")[2].encode(), EOS]


@pytest.mark.parametrize("think", [None, True, "low", "medium", "high"])
def test_a_chat_tells_thinking_from_content(server: RunningServer, think: Any) -> None:
    answer = server.post("/api/chat", conversation(THOUGHT, think=think, stream=False)).json()
    assert answer["message"] == {"role": "assistant", "content": "Forty-two.", "thinking": "Let me see."}


def test_generate_tells_thinking_from_the_response(server: RunningServer) -> None:
    answer = server.post("/api/generate", question(THOUGHT, stream=False)).json()
    assert (answer["response"], answer["thinking"]) == ("Forty-two.", "Let me see.")


def test_thinking_is_streamed_before_the_content(server: RunningServer) -> None:
    for path, ask in (("/api/chat", conversation), ("/api/generate", question)):
        found = lines(server.post(path, ask(THOUGHT)))
        parts = [line.get("message", line) for line in found]
        name = "content" if path == "/api/chat" else "response"
        assert "".join(part.get("thinking", "") for part in parts) == "Let me see."
        assert "".join(part[name] for part in parts) == "Forty-two."
        kinds = ["thinking" in part for part in parts]
        assert kinds == sorted(kinds, reverse=True)


def test_the_official_client_gets_the_thinking(server: RunningServer) -> None:
    client = ollama.Client(host=server.url)
    answer = client.chat("fake", [{"role": "user", "content": THOUGHT}], think=True, options=GREEDY)
    assert (answer.message.thinking, answer.message.content) == ("Let me see.", "Forty-two.")
    generated = client.generate("fake", THOUGHT, think="high", options=GREEDY)
    assert (generated.thinking, generated.response) == ("Let me see.", "Forty-two.")
    client.close()  # type: ignore[no-untyped-call]  # the library lacks the annotation


@pytest.mark.parametrize(
    ("think", "seen"),
    [
        (None, "<think>"),
        (True, "<think>"),
        ("high", "<think>high<think>"),
        (False, "<think>\n\n</think>"),
        ("", "<think>"),
    ],
)
def test_the_template_is_told_how_to_think(serve: Serve, think: Any, seen: str) -> None:
    template = THINKING_TEMPLATE.replace("{# {{ reasoning_effort }} #}", "{{ reasoning_effort }}<think>")
    server = serve(FakeBackend(reply=told_prompt, chat_template=template))
    answer = server.post("/api/chat", conversation("x", think=think, stream=False)).json()["message"]
    shown = answer["content"].replace("</think>", "", 1) if think is False else answer["content"]
    assert "".join(shown.split()) == "".join(seen.split())


def test_think_false_has_no_thinking(server: RunningServer) -> None:
    answer = server.post("/api/chat", conversation("Forty-two.", think=False, stream=False)).json()
    assert answer["message"] == {"role": "assistant", "content": "Forty-two."}


def test_earlier_thinking_reaches_the_template(serve: Serve) -> None:
    server = serve(FakeBackend(reply=echo_thoughts, chat_template=THINKING_TEMPLATE))
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "thinking": "because"},
        {"role": "user", "content": "c"},
    ]
    answer = server.post("/api/chat", {**conversation("x"), "messages": messages, "stream": False}).json()
    assert answer["message"]["content"] == "because"


def echo_thoughts(prompt: tuple[int, ...]) -> list[int]:
    return [*b"</think>", *decode(FakeTokenizer(), prompt).partition("THOUGHT ")[2].partition("<")[0].encode(), EOS]


def test_a_format_holds_after_the_thinking(server: RunningServer) -> None:
    answer = server.post("/api/chat", conversation('So.</think>{"a": 1}', format="json", stream=False)).json()
    assert answer["message"] == {"role": "assistant", "content": '{"a": 1}', "thinking": "So."}


def test_a_raw_prompt_is_not_read_and_takes_no_think(server: RunningServer) -> None:
    text = "<|im_start|>user\n<think>a</think>b<|im_end|>\n"
    answer = server.post("/api/generate", question(text, raw=True, stream=False)).json()
    assert answer["response"] == "<think>a</think>b"
    assert error(server.post("/api/generate", question("x", raw=True, think=True)), 400) == (
        "raw mode does not support think"
    )
