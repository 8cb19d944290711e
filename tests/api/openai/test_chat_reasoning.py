"""Reasoning in chat completions, by a model that says what it is told, after a prompt that lets it think or not."""

import json
from typing import Any

import pytest

from support.api_server import RunningServer, Serve, running_server
from support.chat_scripts import THINKING_TEMPLATE, TOOL_TEMPLATE, scripted

THOUGHT = "Let me see.\n</think>\n\nForty-two."
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.fixture(scope="module")
def server() -> Any:
    with running_server(scripted(THINKING_TEMPLATE)) as running:
        yield running


def ask(server: RunningServer, text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    response = server.post("/v1/chat/completions", {"messages": messages, "temperature": 0, **fields})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_reasoning_is_apart_from_the_content(server: RunningServer) -> None:
    answer = ask(server, THOUGHT)
    message = answer["choices"][0]["message"]
    assert message["content"] == "Forty-two."
    assert message["reasoning"] == message["reasoning_content"] == "Let me see."
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": len("Let me see.\n</think>")}


def test_reasoning_is_streamed_before_the_content(server: RunningServer) -> None:
    with server.client() as client:
        stream = client.chat.completions.create(
            model="fake",
            messages=[{"role": "user", "content": THOUGHT}],
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        found = list(stream)
    deltas = [chunk.choices[0].delta.to_dict() for chunk in found if chunk.choices]
    kinds = ["reasoning" if "reasoning" in delta else "content" for delta in deltas[1:-1]]
    assert kinds == sorted(kinds, reverse=True)
    assert "".join(str(delta.get("reasoning", "")) for delta in deltas) == "Let me see."
    assert "".join(str(delta.get("content", "")) for delta in deltas) == "Forty-two."
    usage = found[-1].usage
    assert usage is not None
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == len("Let me see.\n</think>")


def test_effort_none_lets_the_prompt_close_the_thinking(server: RunningServer) -> None:
    message = ask(server, "Forty-two.", reasoning_effort="none")["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Forty-two.", "refusal": None}
    switch = {"chat_template_kwargs": {"enable_thinking": False}}
    assert ask(server, "Forty-two.", **switch)["choices"][0]["message"]["content"] == "Forty-two."


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high", "xhigh"])
def test_an_effort_reaches_the_template(serve: Serve, effort: str) -> None:
    template = THINKING_TEMPLATE.replace("{# {{ reasoning_effort }} #}", "{{ reasoning_effort }}<think>")
    answer = ask(serve(scripted(template)), THOUGHT, reasoning_effort=effort, return_token_ids=True)
    assert bytes(token for token in answer["prompt_token_ids"] if token < 256).endswith(f"{effort}<think>".encode())
    assert answer["choices"][0]["message"]["reasoning"] == "Let me see."


def test_chat_template_kwargs_go_before_the_effort(server: RunningServer) -> None:
    fields = {"reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": False}}
    assert "reasoning" not in ask(server, "Hi", **fields)["choices"][0]["message"]


def test_reasoning_that_is_cut_off_leaves_no_content(server: RunningServer) -> None:
    answer = ask(server, THOUGHT, max_tokens=5)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["choices"][0]["message"]["reasoning"] == "Let m"
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 5}


def test_reasoning_can_be_left_out(server: RunningServer) -> None:
    answer = ask(server, THOUGHT, include_reasoning=False)
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Forty-two.", "refusal": None}
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


def test_a_call_may_follow_the_reasoning(server: RunningServer) -> None:
    text = 'I call.</think>\n<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    message = ask(server, text, tools=[TOOL])["choices"][0]["message"]
    assert (message["reasoning"], message["content"]) == ("I call.", None)
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


def test_a_demanded_call_comes_after_the_reasoning(server: RunningServer) -> None:
    text = "I won't.</think>\nNo."
    message = ask(server, text, tools=[TOOL], tool_choice="required", max_tokens=400)["choices"][0]["message"]
    assert message["reasoning"] == "I won't."
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {}


def test_a_format_holds_after_the_reasoning(server: RunningServer) -> None:
    answer = ask(server, 'So.</think>\n{"a": 1}', response_format={"type": "json_object"}, max_tokens=400)
    message = answer["choices"][0]["message"]
    assert message["reasoning"] == "So."
    assert json.loads(message["content"]) == {"a": 1}


def test_a_message_that_stops_within_its_thought_is_continued_there(server: RunningServer) -> None:
    body = {
        "messages": [
            {"role": "user", "content": "Yes.</think>No."},
            {"role": "assistant", "content": "<think>Perhaps. "},
        ],
        "continue_final_message": True,
        "temperature": 0,
    }
    message = server.post("/v1/chat/completions", body).json()["choices"][0]["message"]
    assert (message["reasoning"], message["content"]) == ("Yes.", "No.")


def test_an_effort_for_a_model_that_does_not_think_is_a_400(serve: Serve) -> None:
    server = serve(scripted(TOOL_TEMPLATE))
    body = {"messages": [{"role": "user", "content": "x"}], "reasoning_effort": "high"}
    error = server.post("/v1/chat/completions", body).json()["error"]
    assert error["message"] == '"fake" does not support thinking, which reasoning_effort asks for'
    assert server.post("/v1/chat/completions", {**body, "reasoning_effort": "none"}).status_code == 200
    assert server.post("/v1/chat/completions", {**body, "reasoning_effort": "huge"}).status_code == 400
