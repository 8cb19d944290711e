"""What becomes of input items in the prompt, and what is refused by the field that is wrong."""

from typing import Any

import pytest

from pagemill.backends.base import decode
from pagemill.backends.fake import EOS, FakeBackend, FakeTokenizer
from support.api_server import RunningServer, Serve, running_server
from support.chat_scripts import THINKING_TEMPLATE, TOOL_TEMPLATE, scripted

TOOL = {"type": "function", "name": "f", "description": "Does f", "parameters": {"type": "object", "properties": {}}}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":  1}', "id": "fc_1"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "3"}
ALLOWED = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}
FORMAT = {"type": "json_schema", "name": "x", "schema": {"type": "colour"}}


def prompt_of(serve: Serve, template: str, body: dict[str, Any], **options: Any) -> str:
    prompts: list[str] = []

    def seen(prompt: tuple[int, ...]) -> list[int]:
        prompts.append(decode(FakeTokenizer(), prompt))
        return [*b"</think>x", EOS]

    server = serve(FakeBackend(reply=seen, chat_template=template, **options))
    response = server.post("/v1/responses", body)
    assert response.status_code == 200, response.text
    assert response.json()["usage"]["input_tokens"] > 0
    return prompts[0]


def test_items_become_the_templates_messages(serve: Serve) -> None:
    items = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": t} for t in ("One", "Two")]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Let me.", "annotations": [], "logprobs": []}],
        },
        CALL,
        {**CALL, "call_id": "c2", "name": "g"},
        OUTPUT,
        {**OUTPUT, "call_id": "c2", "output": [{"type": "input_text", "text": "4"}]},
        {"role": "user", "content": "Well?"},
        {"role": "developer", "content": "Later."},
    ]
    prompt = prompt_of(serve, TOOL_TEMPLATE, {"instructions": "Be kind.", "input": items, "tools": [TOOL]})
    assert '"function": {"name": "f", "description": "Does f", "parameters": {"type": "object"' in prompt
    assert "<|im_start|>system\nBe kind.\n\nBe brief.<|im_end|>\n<|im_start|>user\nOne\nTwo<|im_end|>" in prompt
    assert 'assistant\nLet me.THOUGHT Hm.CALL c1 f {"a": 1}CALL c2 g {"a": 1}<|im_end|>' in prompt
    assert "tool\n3OF c1 f<|im_end|>\n<|im_start|>tool\n4OF c2 g<|im_end|>" in prompt
    assert prompt.endswith("user\nWell?<|im_end|>\n<|im_start|>system\nLater.<|im_end|>\n<|im_start|>assistant\n")


def test_the_output_can_be_handed_back_as_input(serve: Serve) -> None:
    told = 'Hm.</think>See.<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    with running_server(scripted(THINKING_TEMPLATE)) as server:
        fields: Any = {"model": "fake", "tools": [{**TOOL, "strict": None}], "temperature": 0}
        client = server.client()
        includes: list[Any] = [[], ["reasoning.encrypted_content"]]
        summaries: list[Any] = [{}, {"summary": "auto"}]
        answers = [
            client.responses.create(input=told, include=include, reasoning=reasoning, **fields)
            for include in includes
            for reasoning in summaries
        ]
    assert answers[-1].output[0].to_dict()["encrypted_content"]
    for answer in answers:
        items = [item.to_dict() for item in answer.output]
        output = {**OUTPUT, "call_id": items[-1]["call_id"]}
        prompt = prompt_of(serve, TOOL_TEMPLATE, {"input": [{"role": "user", "content": "x"}, *items, output]})
        assert "assistant\nSee.THOUGHT Hm.CALL call_" in prompt


def test_encrypted_reasoning_alone_is_enough(serve: Serve) -> None:
    items = [{"role": "user", "content": "x"}, {"type": "reasoning", "summary": [], "encrypted_content": "SG0u"}]
    assert "THOUGHT Hm." in prompt_of(serve, TOOL_TEMPLATE, {"input": [*items, {"role": "assistant", "content": "y"}]})


def test_an_effort_reaches_the_template(serve: Serve) -> None:
    template = THINKING_TEMPLATE.replace("{# {{ reasoning_effort }} #}", "EFFORT {{ reasoning_effort }}")
    assert prompt_of(serve, template, {"input": "x", "reasoning": {"effort": "high"}}).endswith("EFFORT high")


def test_truncation_drops_the_oldest_messages(serve: Serve) -> None:
    turn = [{"role": "user", "content": "Question"}, {"role": "assistant", "content": "Answer"}]
    items = [*turn * 10, {"role": "user", "content": "Last"}]
    body = {"instructions": "Kind.", "input": items, "truncation": "auto", "max_output_tokens": 9}
    prompt = prompt_of(serve, TOOL_TEMPLATE, body, max_model_len=200)
    assert prompt.startswith("<|im_start|>system\nKind.<|im_end|>\n<|im_start|>user\nQuestion")
    assert prompt.endswith("user\nLast<|im_end|>\n<|im_start|>assistant\n")
    assert 1 < prompt.count("Question") < 10


@pytest.mark.parametrize("truncation", [None, "disabled", "auto"])
def test_what_can_not_fit_is_a_400(serve: Serve, truncation: str | None) -> None:
    server = serve(FakeBackend(max_model_len=64))
    response = server.post("/v1/responses", {"input": "x" * 100, "truncation": truncation})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")


@pytest.fixture(scope="module")
def server() -> Any:
    with running_server(scripted(TOOL_TEMPLATE)) as running:
        yield running


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"type": ["message"], "role": "user", "content": "x"}]}, "input[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
        ({"input": [{"role": "bot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "odd"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": ["x"]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": "x", "name": "y"}]}, "input[0].name"),
        ({"input": [{**CALL, "arguments": "x"}]}, "input[0].arguments"),
        ({"input": [OUTPUT]}, "input[0].call_id"),
        ({"input": [{"type": "reasoning", "encrypted_content": "?"}]}, "input[0].encrypted_content"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "concise"}}, "reasoning.summary"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"text": {"format": FORMAT}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{**TOOL, "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tools": [{**TOOL, "name": "a b"}]}, "tools[0].name"),
        ({"tools": [TOOL, TOOL]}, "tools[1].name"),
        ({"tools": [TOOL], "tool_choice": {"type": "mcp"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "z"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {**ALLOWED, "tools": []}}, "tool_choice.tools"),
        ({"tools": [TOOL], "tool_choice": {**ALLOWED, "tools": [{"name": ["f"]}]}}, "tool_choice.tools"),
        ({"tools": [TOOL], "tool_choice": {**ALLOWED, "mode": "some"}}, "tool_choice"),
    ],
)
def test_what_is_wrong_is_a_400_that_names_it(server: RunningServer, fields: dict[str, Any], param: str) -> None:
    response = server.post("/v1/responses", {"input": "x", **fields})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert param in error["message"]


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_numbers_that_can_not_be_repeated_are_a_400(server: RunningServer, number: str) -> None:
    tools = '"tools": [{"type": "function", "name": "f", "parameters": {"x": NUMBER}}]'
    form = '"text": {"format": {"type": "json_schema", "name": "x", "schema": {"default": [NUMBER]}}}'
    choice = '"tool_choice": {"type": "function", "name": "f", "x": NUMBER}'
    for field in (tools, form, choice):
        body = f'{{"input": "x", {field}}}'.replace("NUMBER", number)
        response = server.http.post(f"{server.url}/v1/responses", content=body)
        assert response.status_code == 400
        assert "are not JSON" in response.json()["error"]["message"]


def test_refusals_of_what_needs_a_memory_say_why(server: RunningServer) -> None:
    for fields in ({"previous_response_id": "r"}, {"conversation": "c"}, {"background": True}, {"store": True}):
        assert "nothing is stored" in server.post("/v1/responses", {"input": "x", **fields}).json()["error"]["message"]
    assert server.post("/v1/responses", {"input": "x", "store": False, "background": False}).status_code == 200


def test_an_unknown_model_is_a_404(server: RunningServer) -> None:
    response = server.post("/v1/responses", {"input": "x", "model": "nope"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
