"""Markers that are special tokens of the model: they have no text, and are read all the same."""

from typing import Any

import pytest

from pagemill.backends.fake import EOS, FakeBackend, FakeTokenizer
from pagemill.backends.fake.tokenizer import IM_START
from support.api_server import RunningServer, running_server
from support.chat_scripts import GENERATION, MESSAGES

TEMPLATE = "{% if tools %}[TOOL_CALLS]{% endif %}" + MESSAGES + GENERATION
TOOL = {"type": "function", "function": {"name": "f"}}
REPLY = [*b"Hi.", IM_START, *b'[{"name": "f", "arguments": {}}]', EOS]


class MistralTokenizer(FakeTokenizer):
    """One special token is `[TOOL_CALLS]`."""

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        text = text.replace("<|im_start|>", "<start>").replace("[TOOL_CALLS]", "<|im_start|>")
        return super().encode(text, add_special=add_special, parse_special=parse_special)

    def token_bytes(self, token_id: int) -> bytes:
        return b"[TOOL_CALLS]" if token_id == IM_START else super().token_bytes(token_id)


@pytest.fixture(scope="module")
def server() -> Any:
    backend = FakeBackend(reply=lambda prompt: REPLY, chat_template=TEMPLATE)
    backend.tokenizer = MistralTokenizer()
    with running_server(backend) as running:
        yield running


def message(server: RunningServer, **fields: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": "x"}], "temperature": 0, **fields}
    found: dict[str, Any] = server.post("/v1/chat/completions", body).json()["choices"][0]["message"]
    return found


def test_a_special_marker_begins_a_call(server: RunningServer) -> None:
    found = message(server, tools=[TOOL])
    assert found["content"] == "Hi."
    assert [call["function"]["name"] for call in found["tool_calls"]] == ["f"]
    assert len(found["tool_calls"][0]["id"]) == 9, "Mistral's templates take ids of nine characters"


def test_where_nobody_reads_it_it_has_no_text(server: RunningServer) -> None:
    assert message(server)["content"] == 'Hi.[{"name": "f", "arguments": {}}]'
    assert message(server, skip_special_tokens=False)["content"] == 'Hi.[TOOL_CALLS][{"name": "f", "arguments": {}}]'


def test_it_is_read_in_the_ollama_dialect_too(server: RunningServer) -> None:
    body = {"model": "fake", "messages": [{"role": "user", "content": "x"}], "tools": [TOOL], "stream": False}
    found = server.post("/api/chat", {**body, "options": {"temperature": 0}}).json()["message"]
    assert [call["function"]["name"] for call in found["tool_calls"]] == ["f"]


def test_a_demanded_call_has_the_special_token(server: RunningServer) -> None:
    found = message(server, tools=[TOOL], tool_choice="required", max_tokens=300, return_token_ids=True)
    assert {call["function"]["name"] for call in found["tool_calls"]} == {"f"}
    assert found["content"] is None
