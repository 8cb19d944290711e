"""What the model or the server lacks is refused by name, never ignored. The list's lines are in tests/behaviours."""

from datetime import datetime
from typing import Any

import pytest

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, Serve
from support.ollama_requests import conversation, error, question


@pytest.mark.parametrize("think", [False, None, ""])
def test_think_false_is_fine(parrots: RunningServer, think: Any) -> None:
    for path, ask in (("/api/generate", question), ("/api/chat", conversation)):
        assert parrots.post(path, ask("hi", think=think, stream=False)).status_code == 200


def test_another_think_is_400(parrots: RunningServer) -> None:
    assert "invalid think value: 'hard'" in error(parrots.post("/api/chat", conversation("hi", think="hard")), 400)


@pytest.mark.parametrize(
    ("fields", "capability"),
    [({"suffix": "}"}, "insert"), ({"images": ["aGk="]}, "vision")],
)
def test_generate_without_the_capability_is_400(
    parrots: RunningServer, fields: dict[str, Any], capability: str
) -> None:
    answer = error(parrots.post("/api/generate", question("hi", **fields)), 400)
    assert answer == f'"fake" does not support {capability}'


TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
CALL = {"function": {"name": "f", "arguments": {}}}


@pytest.mark.parametrize(
    ("fields", "lacking"),
    [
        ({"tools": [TOOL]}, "tools"),
        (
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [CALL]}]},
            "tools, which messages[0] asks for",
        ),
        ({"messages": [{"role": "tool", "content": "3", "tool_name": "f"}]}, "tools, which messages[0] asks for"),
        (
            {"messages": [{"role": "user", "content": "see", "images": ["aGk="]}]},
            "vision, which messages[0].images asks for",
        ),
        (
            {"messages": [{"role": "assistant", "content": "so", "thinking": "hm"}]},
            "thinking, which messages[0].thinking asks for",
        ),
    ],
)
def test_chat_without_the_capability_is_400(parrots: RunningServer, fields: dict[str, Any], lacking: str) -> None:
    assert error(parrots.post("/api/chat", conversation("hi", **fields)), 400) == f'"fake" does not support {lacking}'


def test_chat_with_a_model_that_has_no_template_is_400(serve: Serve) -> None:
    server = serve(FakeBackend(chat_template=None))
    assert error(server.post("/api/chat", conversation("hi")), 400) == '"fake" does not support chat'
    assert "no chat template" in error(server.post("/api/generate", question("hi", system="Be kind")), 400)
    answer = server.post("/api/generate", question("hi", stream=False)).json()
    assert answer["prompt_eval_count"] == len(b"hi") + 1, "the text and a BOS token"


def test_raw_gives_the_prompt_to_the_model_as_it_is(parrots: RunningServer) -> None:
    text = "<|im_start|>user\nraw<|im_end|>\n<|im_start|>assistant\n"
    answer = parrots.post("/api/generate", question(text, raw=True, stream=False)).json()
    assert answer["response"] == "raw"
    with_bos = parrots.post("/api/generate", question("<|bos|>" + text, raw=True, stream=False)).json()
    assert with_bos["prompt_eval_count"] == answer["prompt_eval_count"], "there is one BOS token, not two"


def test_top_logprobs_without_logprobs_is_400(parrots: RunningServer) -> None:
    assert "logprobs is not true" in error(parrots.post("/api/chat", conversation("hi", top_logprobs=2)), 400)


def test_tags_lists_what_can_be_served(parrots: RunningServer) -> None:
    (model,) = parrots.get("/api/tags").json()["models"]
    assert model["name"] == model["model"] == "fake:latest"
    assert model.keys() == {"name", "model", "modified_at", "size", "digest", "details"}
    assert len(model["digest"]) == 64
    assert datetime.fromisoformat(model["modified_at"]).tzinfo is not None


def test_a_custom_template_is_refused_by_name(parrots: RunningServer) -> None:
    assert "template is not supported" in error(parrots.post("/api/generate", question("hi", template="{{ . }}")), 400)


@pytest.mark.parametrize("role", ["developer", ""])
def test_an_unknown_role_is_refused_by_its_place(parrots: RunningServer, role: str) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": role, "content": "hi"}]
    answer = error(parrots.post("/api/chat", conversation("x", messages=messages)), 400)
    assert answer.startswith("messages[1].role must be one of system, user, assistant")


def test_too_many_messages_are_refused(serve: Serve) -> None:
    server = serve(max_messages=3)
    assert server.post("/api/chat", conversation("a", "b", "c")).status_code == 200
    assert "at most 3" in error(server.post("/api/chat", conversation("a", "b", "c", "d")), 400)


def test_empty_values_that_clients_send_mean_nothing(parrots: RunningServer) -> None:
    body = question("hi", stream=False, suffix="", system="", template="", images=[], format="", raw=False, shift=False)
    assert parrots.post("/api/generate", body).json()["response"] == "hi"
    body = conversation("hi", stream=False, tools=[], format=None, think=False, truncate=False)
    assert parrots.post("/api/chat", body).json()["message"]["content"] == "hi"
