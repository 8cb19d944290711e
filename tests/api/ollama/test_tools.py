"""Tool calls in /api/chat, by a model that says what it is told."""

import json
from typing import Any

import pytest

from pagemill.api.ollama.messages import template_messages
from pagemill.api.ollama.requests import Message
from support.api_server import RunningServer, Serve, running_server
from support.chat_scripts import THINKING_TEMPLATE, TOOL_TEMPLATE, scripted
from support.ollama_requests import conversation, error, lines

TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
SECOND = '<tool_call>\n{"name": "g", "arguments": {"b": "é"}}\n</tool_call>'


@pytest.fixture(scope="module")
def server() -> Any:
    with running_server(scripted(TOOL_TEMPLATE)) as running:
        yield running


def chat(server: RunningServer, text: str, **fields: Any) -> dict[str, Any]:
    response = server.post("/api/chat", conversation(text, tools=[TOOL], stream=False, **fields))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def functions(message: dict[str, Any]) -> list[tuple[int, str, Any]]:
    return [
        (call["function"]["index"], call["function"]["name"], call["function"]["arguments"])
        for call in message["tool_calls"]
    ]


def test_arguments_are_objects_and_calls_have_ids(server: RunningServer) -> None:
    answer = chat(server, f"Let me see.\n{CALL}\n{SECOND}")
    assert (answer["done"], answer["done_reason"]) == (True, "stop")
    assert answer["message"]["content"] == "Let me see."
    assert functions(answer["message"]) == [(0, "f", {"a": 1}), (1, "g", {"b": "é"})]
    assert all(call["id"].startswith("call_") for call in answer["message"]["tool_calls"])


def test_streamed_calls_come_whole_and_one_by_one(server: RunningServer) -> None:
    found = lines(server.post("/api/chat", conversation(f"Let me see.\n{CALL}\n{SECOND}", tools=[TOOL])))
    assert "".join(line["message"]["content"] for line in found) == "Let me see."
    with_calls = [line["message"] for line in found if "tool_calls" in line["message"]]
    assert [functions(message) for message in with_calls] == [[(0, "f", {"a": 1})], [(1, "g", {"b": "é"})]]
    assert [line["done"] for line in found] == [False] * (len(found) - 1) + [True]


def test_a_call_without_a_json_object_is_shown_as_the_model_wrote_it(server: RunningServer) -> None:
    text = '<tool_call>\n{"name": "f", "arguments": {\'a\': 1}}\n</tool_call>'
    message = chat(server, text)["message"]
    assert "tool_calls" not in message
    assert "{'a': 1}" in message["content"]
    assert '"f"' in message["content"]


def test_half_a_surrogate_pair_in_the_arguments_is_sent_as_an_escape(server: RunningServer) -> None:
    text = '<tool_call>{"name": "f", "arguments": {"a": "\\ud83d"}}</tool_call>'
    response = server.post("/api/chat", conversation(text, tools=[TOOL], stream=False))
    assert '"a":"\\ud83d"' in response.text
    assert functions(response.json()["message"]) == [(0, "f", {"a": "\ud83d"})]


def test_without_tools_in_the_request_calls_are_text(server: RunningServer) -> None:
    answer = server.post("/api/chat", conversation(CALL, stream=False)).json()
    assert answer["message"] == {"role": "assistant", "content": CALL}


def test_a_tool_choice_is_honoured(server: RunningServer) -> None:
    message = chat(server, "I won't.", tool_choice="required", parallel_tool_calls=False)["message"]
    assert message["content"] == ""
    assert [name for _index, name, _arguments in functions(message)] == ["f"]
    assert chat(server, CALL, tool_choice="none")["message"]["content"] == CALL


def test_logprobs_and_counts_are_of_all_tokens(server: RunningServer) -> None:
    answer = chat(server, CALL, logprobs=True)
    assert len(answer["logprobs"]) == answer["eval_count"] - 1 == len(CALL)
    streamed = lines(server.post("/api/chat", conversation(CALL, tools=[TOOL], logprobs=True)))
    assert sum(len(line.get("logprobs", ())) for line in streamed) == len(CALL)


def test_a_thinking_model_calls_after_it_thought(serve: Serve) -> None:
    server = serve(scripted(THINKING_TEMPLATE))
    message = chat(server, f"Hm.</think>{CALL}")["message"]
    assert (message["thinking"], message["content"]) == ("Hm.", "")
    assert functions(message) == [(0, "f", {"a": 1})]


def test_history_gets_the_ids_that_templates_need() -> None:
    calls = [{"function": {"name": "f", "arguments": {"a": 1}}}, {"function": {"name": "g"}}]
    given: list[dict[str, Any]] = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "content": "2", "tool_name": "g"},
        {"role": "tool", "content": "1"},
        {"role": "assistant", "tool_calls": [{"id": "mine", "function": {"name": "f", "arguments": {}}}]},
        {"role": "tool", "content": "3", "tool_call_id": "mine"},
        {"role": "tool", "content": "4", "tool_name": "h"},
    ]
    found = template_messages([Message(**message) for message in given])
    assert [call["id"] for call in found[1]["tool_calls"]] == ["call00000", "call00001"]
    assert found[1]["tool_calls"][1]["function"] == {"name": "g", "arguments": {}}
    named = [(message["name"], message["tool_call_id"]) for message in found if message["role"] == "tool"]
    assert named == [("g", "call00001"), ("f", "call00000"), ("f", "mine"), ("h", "")]


def test_history_reaches_the_template(serve: Serve) -> None:
    template = TOOL_TEMPLATE + "<|im_start|>user\n{{ messages[-1].name }}={{ messages[-1].content }}<|im_end|>"
    server = serve(scripted(template))
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
        {"role": "tool", "content": "3", "tool_name": "f"},
    ]
    answer = server.post("/api/chat", {**conversation("x"), "messages": messages, "stream": False}).json()
    assert answer["message"]["content"] == "f=3"


def test_truncation_keeps_the_tools(server: RunningServer) -> None:
    texts = ["long " * 200, "yes", CALL]
    answer = server.post(
        "/api/chat",
        conversation(*texts, tools=[TOOL], truncate=True, stream=False, options={"num_ctx": 700, "temperature": 0}),
    )
    assert functions(answer.json()["message"]) == [(0, "f", {"a": 1})]
    assert answer.json()["prompt_eval_count"] < 700


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        ({"tools": [TOOL], "tool_choice": "all"}, "tool_choice"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0].function"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}]},
            "messages[0].tool_calls[0].function.name",
        ),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
    ],
)
def test_wrong_tools_and_calls_are_a_400_that_names_them(
    server: RunningServer, fields: dict[str, Any], says: str
) -> None:
    assert says in error(server.post("/api/chat", {**conversation("x"), **fields}), 400)


def test_show_lists_what_the_template_can_do(server: RunningServer, serve: Serve) -> None:
    assert server.post("/api/show", {"model": "fake"}).json()["capabilities"] == ["completion", "tools"]
    thinker = serve(scripted(THINKING_TEMPLATE)).post("/api/show", {"model": "fake"}).json()
    assert thinker["capabilities"] == ["completion", "tools", "thinking"]
    assert serve().post("/api/show", {"model": "fake"}).json()["capabilities"] == ["completion"]


def test_a_line_with_calls_is_json_of_one_line(server: RunningServer) -> None:
    response = server.post("/api/chat", conversation(CALL, tools=[TOOL]))
    for line in response.text.strip().split("\n"):
        assert json.loads(line)["message"]["role"] == "assistant"
