"""The context of an answer, sent back: more than that it continues the conversation, which tests/behaviours has."""

import pytest

from support.api_server import RunningServer
from support.ollama_requests import GREEDY, conversation, error, lines, question


def test_a_continued_conversation_is_the_one_that_chat_makes(parrots: RunningServer) -> None:
    first = parrots.post("/api/generate", question("one", stream=False)).json()
    continued = parrots.post("/api/generate", question("two", stream=False, context=first["context"])).json()
    chat = parrots.post("/api/chat", conversation("one", first["response"], "two", stream=False)).json()
    assert continued["prompt_eval_count"] == chat["prompt_eval_count"]
    assert continued["response"] == chat["message"]["content"] == "one|two"


def test_a_streamed_answer_carries_the_same_context(parrots: RunningServer) -> None:
    whole = parrots.post("/api/generate", question("one", stream=False)).json()
    *parts, last = lines(parrots.post("/api/generate", question("one")))
    assert last["context"] == whole["context"]
    assert all("context" not in part for part in parts)


def test_the_text_of_a_stop_string_is_not_in_the_context(parrots: RunningServer) -> None:
    body = question("one two three", stream=False, options={**GREEDY, "stop": [" two"]})
    last = parrots.post("/api/generate", body).json()
    assert (last["response"], last["done_reason"]) == ("one", "stop")
    assert bytes(last["context"][-3:]) == b"one"


def test_a_system_message_can_join_a_continued_conversation(parrots: RunningServer) -> None:
    first = parrots.post("/api/generate", question("one", stream=False)).json()
    body = question("two", stream=False, context=first["context"], system="Be kind")
    assert parrots.post("/api/generate", body).json()["response"] == "{Be kind}one|two"


@pytest.mark.parametrize("token_id", [-1, 259, 10**12])
def test_a_context_of_what_is_no_token_is_refused(parrots: RunningServer, token_id: int) -> None:
    message = error(parrots.post("/api/generate", question("x", context=[1, token_id])), 400)
    assert f"context has {token_id}" in message
