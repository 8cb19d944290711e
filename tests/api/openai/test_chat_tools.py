"""Tool calls in chat completions, by a model that says what it is told."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagemill.backends.base import decode
from pagemill.backends.fake import EOS, FakeBackend, FakeTokenizer
from support.api_server import RunningServer, Serve, running_server
from support.chat_scripts import GENERATION, TOOL_TEMPLATE, scripted
from support.chat_scripts import MESSAGES as MESSAGES_OF_TEMPLATE

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
OTHER = {"type": "function", "function": {"name": "g"}}
MESSAGES_ONLY = MESSAGES_OF_TEMPLATE + GENERATION
STRICT_OTHER = {"type": "function", "function": {"name": "g", "strict": True, "parameters": {"properties": {}}}}
STRICT = {"type": "function", "function": {**TOOL["function"], "strict": True}}
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
SECOND = '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>'


@pytest.fixture(scope="module")
def server() -> Any:
    with running_server(scripted(TOOL_TEMPLATE)) as running:
        yield running


def body(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "tools": [TOOL, OTHER], "temperature": 0, **fields}


def choice(server: RunningServer, text: str, **fields: Any) -> dict[str, Any]:
    response = server.post("/v1/chat/completions", body(text, **fields))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["choices"][0]
    return found


def chunks(server: RunningServer, text: str, **fields: Any) -> list[dict[str, Any]]:
    response = server.post("/v1/chat/completions", body(text, stream=True, **fields))
    *events, done, _end = response.text.split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


def functions(message: dict[str, Any]) -> list[tuple[str, str]]:
    return [(call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]]


def test_content_and_several_calls_come_in_one_message(server: RunningServer) -> None:
    found = choice(server, f"Let me see.\n{CALL}\n{SECOND}")
    assert found["finish_reason"] == "tool_calls"
    assert found["message"]["content"] == "Let me see."
    assert functions(found["message"]) == [("f", '{"a": 1}'), ("g", "{}")]
    ids = [call["id"] for call in found["message"]["tool_calls"]]
    assert len(set(ids)) == 2
    assert all(call_id.startswith("call_") for call_id in ids)


def test_streamed_calls_say_the_same_as_whole_ones(server: RunningServer) -> None:
    found = [chunk["choices"][0] for chunk in chunks(server, f"Let me see.\n{CALL}\n{SECOND}")]
    assert "".join(part["delta"].get("content") or "" for part in found) == "Let me see."
    assert [part["finish_reason"] for part in found if part["finish_reason"]] == ["tool_calls"]
    calls = [call for part in found for call in part["delta"].get("tool_calls", ())]
    starts = [call for call in calls if "id" in call]
    assert [(call["index"], call["type"], call["function"]["name"]) for call in starts] == [
        (0, "function", "f"),
        (1, "function", "g"),
    ]
    arguments = ["".join(call["function"]["arguments"] for call in calls if call["index"] == index) for index in (0, 1)]
    assert arguments == ['{"a": 1}', "{}"]
    assert len(calls) > 4, "arguments come as the model writes them"


def test_a_call_alone_has_no_content(server: RunningServer) -> None:
    assert choice(server, CALL)["message"]["content"] is None


def test_text_that_only_looks_like_a_call_is_content(server: RunningServer) -> None:
    found = choice(server, "<tool_call> is a tag")
    assert found["finish_reason"] == "stop"
    assert found["message"] == {"role": "assistant", "content": "<tool_call> is a tag", "refusal": None}


def test_a_call_that_is_cut_off_finishes_by_length(server: RunningServer) -> None:
    found = choice(server, CALL, max_tokens=len('<tool_call>\n{"name": "f", "arguments": {"a'))
    assert found["finish_reason"] == "length"
    assert functions(found["message"]) == [("f", '{"a')]


def test_without_parallel_calls_only_the_first_is_shown(server: RunningServer) -> None:
    found = choice(server, f"{CALL}\n{SECOND}", parallel_tool_calls=False)
    assert functions(found["message"]) == [("f", '{"a": 1}')]


def test_each_of_n_choices_has_its_own_calls(server: RunningServer) -> None:
    answer = server.post("/v1/chat/completions", body(CALL, n=3)).json()
    assert [functions(one["message"]) for one in answer["choices"]] == [[("f", '{"a": 1}')]] * 3
    ids = {one["message"]["tool_calls"][0]["id"] for one in answer["choices"]}
    assert len(ids) == 3


def test_stop_strings_apply_to_all_that_the_model_writes(server: RunningServer) -> None:
    found = choice(server, f"Hi. {CALL}", stop=["1}"])
    assert (found["finish_reason"], found["stop_reason"]) == ("tool_calls", "1}")
    assert functions(found["message"]) == [("f", '{"a": ')]


def test_logprobs_and_usage_count_the_tokens_of_calls(server: RunningServer) -> None:
    answer = server.post("/v1/chat/completions", body(CALL, logprobs=True, return_token_ids=True)).json()
    (found,) = answer["choices"]
    assert "".join(entry["token"] for entry in found["logprobs"]["content"]).startswith(CALL)
    assert len(found["token_ids"]) == len(found["logprobs"]["content"]) == answer["usage"]["completion_tokens"]
    streamed = [chunk["choices"][0] for chunk in chunks(server, CALL, logprobs=True, return_token_ids=True)]
    entries = [entry for part in streamed for entry in (part["logprobs"] or {}).get("content", ())]
    assert entries == found["logprobs"]["content"]
    assert [token for part in streamed for token in part.get("token_ids", ())] == found["token_ids"]


def test_the_last_chunk_has_the_usage_of_a_call(server: RunningServer) -> None:
    last = chunks(server, CALL, stream_options={"include_usage": True})[-1]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == len(CALL) + 1


@pytest.mark.parametrize(("choice_field", "sees_tools"), [(None, True), ("auto", True), ("none", False)])
def test_the_model_is_told_of_the_tools_unless_the_choice_is_none(
    serve: Serve, choice_field: str | None, sees_tools: bool
) -> None:
    prompts: list[str] = []
    server = serve(FakeBackend(reply=lambda prompt: seen(prompt, prompts), chat_template=TOOL_TEMPLATE))
    answer = choice(server, CALL, tool_choice=choice_field)
    assert answer["message"]["content"] == CALL if not sees_tools else "ok"
    assert ('"name": "f"' in prompts[0].split("<|im_start|>")[0]) is sees_tools


def seen(prompt: tuple[int, ...], prompts: list[str]) -> list[int]:
    prompts.append(decode(FakeTokenizer(), prompt))
    return [*(b"ok" if "TOOLS" in prompts[-1] else CALL.encode()), EOS]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_demanded_call_is_made_whatever_the_model_wants_to_say(
    server: RunningServer, temperature: int, stream: bool
) -> None:
    named = {"tool_choice": {"type": "function", "function": {"name": "g"}}, "temperature": temperature, "seed": 1}
    if stream:
        found = [chunk["choices"][0] for chunk in chunks(server, "I won't.", **named)]
        calls = [call for part in found for call in part["delta"].get("tool_calls", ())]
        assert "".join(part["delta"].get("content") or "" for part in found) == ""
        assert calls[0]["function"]["name"] == "g"
        assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {}
        assert found[-1]["finish_reason"] == "tool_calls"
    else:
        answer = choice(server, "I won't.", **named)
        assert (answer["finish_reason"], answer["message"]["content"]) == ("tool_calls", None)
        ((name, arguments),) = functions(answer["message"])
        assert (name, json.loads(arguments)) == ("g", {})


@pytest.mark.parametrize(
    ("tools", "keys"), [([TOOL, OTHER], {"b"}), ([TOOL, STRICT_OTHER], {"b"}), ([STRICT, OTHER], {"a"})]
)
def test_strict_tools_are_held_to_their_schemas_and_others_are_not(
    server: RunningServer, tools: list[Any], keys: set[str]
) -> None:
    text = 'Hi <tool_call>\n{"name": "f", "arguments": {"b": 2}}\n</tool_call>'
    found = choice(server, text, tools=tools, max_tokens=400, parallel_tool_calls=False)
    assert found["message"]["content"] == "Hi"
    ((name, arguments),) = functions(found["message"])
    assert name == "f"
    assert set(json.loads(arguments)) <= keys
    assert choice(server, "Just text.", tools=tools)["message"]["content"] == "Just text."


@pytest.mark.parametrize("mark", ["<tool_call>", "<parameter=", "<arg_key>", "<|python_start|>", "[TOOL_CALLS]"])
def test_with_a_response_format_an_answer_is_in_it_or_calls(serve: Serve, mark: str) -> None:
    template = MESSAGES_ONLY + "{# tools " + mark + " #}"
    server = serve(scripted(template))
    fields = {"response_format": {"type": "json_object"}, "max_tokens": 400, "parallel_tool_calls": False}
    assert json.loads(choice(server, '{"b": 2}', **fields)["message"]["content"]) == {"b": 2}
    begin = {"[TOOL_CALLS]": "[TOOL_CALLS]f[ARGS]{}", "<|python_start|>": '{"name": "f", "parameters": {}}'}
    found = choice(server, begin.get(mark, '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'), **fields)
    assert functions(found["message"]) == [("f", "{}")]
    assert found["message"]["content"] is None


def test_required_calls_are_of_the_tools(server: RunningServer) -> None:
    found = choice(server, "I won't.", tool_choice="required", temperature=1, seed=2, max_tokens=400)
    assert found["message"]["content"] is None
    assert {name for name, _arguments in functions(found["message"])} <= {"f", "g"}


def test_history_reaches_the_template_with_arguments_as_objects(serve: Serve) -> None:
    prompts: list[str] = []
    server = serve(FakeBackend(reply=lambda prompt: seen(prompt, prompts), chat_template=TOOL_TEMPLATE))
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":  1}'}}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "Hm."},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "3"}]},
    ]
    assert server.post("/v1/chat/completions", {"messages": messages}).status_code == 200
    assert 'THOUGHT Hm.CALL c1 f {"a": 1}' in prompts[0]
    assert "tool\n3OF c1" in prompts[0]


def test_a_model_without_tools_in_its_template_refuses_them(serve: Serve) -> None:
    error = serve().post("/v1/chat/completions", body("x")).json()["error"]
    assert (error["message"], error["param"]) == ('"fake" does not support tools', "tools")


def test_a_wrong_schema_of_a_demanded_tool_is_a_400_that_says_where(server: RunningServer) -> None:
    wrong = {"type": "function", "function": {"name": "h", "parameters": {"properties": {"a": {"type": "colour"}}}}}
    response = server.post("/v1/chat/completions", body("x", tools=[wrong], tool_choice="required"))
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("tools[0].function.parameters")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": "x"}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "z"}}}, "tool_choice"),
        ({"tools": [], "tool_choice": "auto"}, "tool_choice"),
        ({"tools": [TOOL], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
)
def test_wrong_tools_are_a_400_that_names_the_field(server: RunningServer, fields: dict[str, Any], param: str) -> None:
    response = server.post("/v1/chat/completions", {**body("x"), **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_the_number_of_tools_is_a_setting(serve: Serve) -> None:
    server = serve(scripted(TOOL_TEMPLATE), max_tools=1)
    error = server.post("/v1/chat/completions", body("x")).json()["error"]
    assert error["param"] == "tools"
    assert "max_tools" in error["message"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.text(max_size=3) | st.sampled_from(["object", "string", "f"]),
    lambda children: (
        st.lists(children, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["type", "function", "name", "parameters", "properties", "required", "a", "strict", "$ref"]
            ),
            children,
            max_size=4,
        )
    ),
    max_leaves=8,
)
NEARLY_TOOLS = st.fixed_dictionaries(
    {"type": st.just("function") | JSON},
    optional={
        "function": st.fixed_dictionaries(
            {"name": st.sampled_from(["f", "g", "a b"])}, optional={"parameters": JSON, "strict": st.booleans()}
        )
    },
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {}, optional={"id": JSON, "function": st.fixed_dictionaries({"name": JSON, "arguments": JSON})}
    ),
    max_size=2,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool"])},
        optional={"content": JSON, "tool_calls": CALLS | JSON, "tool_call_id": JSON, "reasoning": JSON},
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tools=st.lists(NEARLY_TOOLS, max_size=3) | JSON,
    tool_choice=st.sampled_from(["auto", "none", "required", None]) | JSON,
    messages=MESSAGES,
    path=st.sampled_from(["/v1/chat/completions", "/api/chat"]),
)
def test_no_tools_or_calls_make_the_server_fail(
    server: RunningServer, tools: Any, tool_choice: Any, messages: Any, path: str
) -> None:
    limits = {"max_tokens": 3} if path.startswith("/v1") else {"options": {"num_predict": 3}, "stream": False}
    fields = {"model": "fake", "messages": messages, "tools": tools, "tool_choice": tool_choice, **limits}
    response = server.post(path, fields)
    assert response.status_code in (200, 400), response.text
