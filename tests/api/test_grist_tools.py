"""The demo model uses tools: it is asked, calls, gets the result and answers, through the official clients.

`pagemill serve grist` is a process of its own; on the paged backend it takes longer, so that is marked slow.
"""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import ollama
import pytest
from openai import OpenAI

from support.served_process import served_process

LIMITS = ("--port", "0", "--threads", "1", "--kv-cache-memory-bytes", "16777216")


def tool(name: str, description: str, parameter: str, kind: str, **fields: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {parameter: {"type": kind}}, "required": [parameter]}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters, **fields},
    }


WEATHER = tool("get_weather", "Get the current weather in a city", "city", "string")
TIME = tool("get_time", "Get the current time in a city", "city", "string")
CALCULATOR = tool("calculate", "Evaluate an arithmetic expression", "expression", "string")
TIMER = tool("set_timer", "Set a timer", "minutes", "integer")

CASES = [
    pytest.param(
        WEATHER,
        "What is the weather in Paris?",
        {"city": "Paris"},
        '{"temperature": 21, "condition": "sunny"}',
        "It is 21 degrees and sunny in Paris.",
        id="weather",
    ),
    pytest.param(
        TIME, "What time is it in Rome?", {"city": "Rome"}, '{"time": "12:30"}', "It is 12:30 in Rome.", id="time"
    ),
    pytest.param(
        CALCULATOR, "What is 17 + 25?", {"expression": "17 + 25"}, '{"result": 42}', "17 + 25 = 42", id="calculator"
    ),
    pytest.param(
        TIMER,
        "Set a timer for 12 minutes.",
        {"minutes": 12},
        '{"status": "ok"}',
        "The timer is set for 12 minutes.",
        id="timer",
    ),
]


@pytest.fixture(scope="module", params=["gguf", pytest.param("paged", marks=pytest.mark.slow)])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    options = ("--device", "cpu") if request.param == "paged" else ()
    with served_process("grist", "--backend", request.param, *options, *LIMITS, step_delay_s=None) as served:
        yield served.address


@pytest.fixture
def openai_client(address: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(address: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=address, api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture
def ollama_client(address: str) -> Iterator[ollama.Client]:
    client = ollama.Client(host=address)
    yield client
    client.close()  # type: ignore[no-untyped-call]  # the library lacks the annotation


def complete(client: OpenAI, messages: list[Any], tools: list[Any], **fields: Any) -> Any:
    options = {"temperature": 0, **fields}
    return client.chat.completions.create(model="grist", messages=messages, tools=tools, **options)


@pytest.mark.parametrize(("declared", "question", "arguments", "result", "answer"), CASES)
def test_openai_conversation_with_a_tool(
    openai_client: OpenAI, declared: Any, question: str, arguments: Any, result: str, answer: str
) -> None:
    messages: list[Any] = [{"role": "user", "content": question}]
    choice = complete(openai_client, messages, [declared]).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    (called,) = choice.message.tool_calls
    assert (called.type, called.function.name) == ("function", declared["function"]["name"])
    assert json.loads(called.function.arguments) == arguments
    messages += [choice.message, {"role": "tool", "tool_call_id": called.id, "content": result}]
    last = complete(openai_client, messages, [declared]).choices[0]
    assert (last.finish_reason, last.message.content, last.message.tool_calls) == ("stop", answer, None)


@pytest.mark.parametrize(("declared", "question", "arguments", "result", "answer"), CASES)
def test_openai_conversation_with_a_tool_streamed(
    openai_client: OpenAI, declared: Any, question: str, arguments: Any, result: str, answer: str
) -> None:
    messages: list[Any] = [{"role": "user", "content": question}]
    call = {"role": "assistant", "tool_calls": [streamed_call(openai_client, messages, declared)]}
    assert json.loads(call["tool_calls"][0]["function"]["arguments"]) == arguments
    messages += [call, {"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": result}]
    chunks = list(complete(openai_client, messages, [declared], stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answer
    assert chunks[-1].choices[0].finish_reason == "stop"


def streamed_call(client: OpenAI, messages: list[Any], declared: Any) -> Any:
    chunks = list(complete(client, messages, [declared], stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    choices = [chunk.choices[0] for chunk in chunks[:-1]]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["tool_calls"]
    assert "".join(choice.delta.content or "" for choice in choices) == ""
    first, *rest = [call for choice in choices for call in choice.delta.tool_calls or ()]
    assert first.function.name == declared["function"]["name"]
    assert len(rest) > 1, "arguments come in pieces"
    assert {call.index for call in (first, *rest)} == {0}
    assert {(call.id, call.function.name) for call in rest} == {(None, None)}
    arguments = "".join(call.function.arguments for call in (first, *rest))
    return {"id": first.id, "type": "function", "function": {"name": first.function.name, "arguments": arguments}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("declared", "question", "arguments", "result", "answer"), CASES)
def test_ollama_conversation_with_a_tool(
    ollama_client: ollama.Client,
    declared: Any,
    question: str,
    arguments: Any,
    result: str,
    answer: str,
    stream: bool,
) -> None:
    def ask() -> Any:
        options: Any = {"tools": [declared], "options": {"temperature": 0}, "stream": stream}
        found = ollama_client.chat("grist", messages, **options)
        return list(found) if stream else [found]

    messages: list[Any] = [{"role": "user", "content": question}]
    parts = ask()
    assert "".join(part.message.content for part in parts) == ""
    assert (parts[-1].done, parts[-1].done_reason) == (True, "stop")
    (message,) = [part.message for part in parts if part.message.tool_calls]
    (called,) = message.tool_calls
    assert (called.function.name, called.function.arguments) == (declared["function"]["name"], arguments)
    messages += [message, {"role": "tool", "tool_name": called.function.name, "content": result}]
    assert "".join(part.message.content for part in ask()) == answer


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("declared", "question", "arguments", "result", "answer"), CASES)
def test_anthropic_conversation_with_a_tool(
    anthropic_client: anthropic.Anthropic,
    declared: Any,
    question: str,
    arguments: Any,
    result: str,
    answer: str,
    stream: bool,
) -> None:
    function = declared["function"]
    described = {"name": function["name"], "description": function["description"]}
    tools: Any = [{**described, "input_schema": function["parameters"]}]
    messages: list[Any] = [{"role": "user", "content": question}]

    def ask() -> Any:
        options: Any = {"max_tokens": 200, "tools": tools, "extra_body": {"temperature": 0}}
        body: Any = {"model": "grist", "messages": messages, **options}
        if not stream:
            return anthropic_client.messages.create(**body)
        with anthropic_client.messages.stream(**body) as events:
            return events.get_final_message()

    message = ask()
    assert message.stop_reason == "tool_use"
    (called,) = message.content
    assert (called.type, called.name, called.input) == ("tool_use", function["name"], arguments)
    done = {"type": "tool_result", "tool_use_id": called.id, "content": result}
    messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": [done]}]
    last = ask()
    assert last.stop_reason == "end_turn"
    assert [block.text for block in last.content] == [answer]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("declared", "question", "arguments", "result", "answer"), CASES)
def test_responses_conversation_with_a_tool(
    openai_client: OpenAI, declared: Any, question: str, arguments: Any, result: str, answer: str, stream: bool
) -> None:
    tools: Any = [{"type": "function", **declared["function"], "strict": None}]
    items: list[Any] = [{"role": "user", "content": question}]

    def ask() -> Any:
        body: Any = {"model": "grist", "input": items, "tools": tools, "temperature": 0}
        if not stream:
            return openai_client.responses.create(**body)
        with openai_client.responses.stream(**body) as events:
            return events.get_final_response()

    (called,) = ask().output
    assert (called.type, called.name) == ("function_call", declared["function"]["name"])
    assert json.loads(called.arguments) == arguments
    call = called.to_dict(exclude_none=True)
    call.pop("parsed_arguments", None)  # what the client made of the arguments
    items += [call, {"type": "function_call_output", "call_id": called.call_id, "output": result}]
    last = ask()
    assert (last.status, last.output_text) == ("completed", answer)


def test_a_conversation_with_a_tool_is_as_long_in_all_dialects(
    address: str, openai_client: OpenAI, anthropic_client: anthropic.Anthropic, ollama_client: ollama.Client
) -> None:
    question, answered = "What is the weather in Paris?", '{"temperature": 21, "condition": "sunny"}'
    named = {"name": "get_weather", "description": "Get the current weather in a city"}
    schema, function = WEATHER["function"]["parameters"], {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    system = {"role": "system", "content": "You are a helpful assistant."}
    asked, result = {"role": "user", "content": question}, {"role": "tool", "content": answered}
    call = {"id": "c1", "type": "function", "function": function}
    chat: Any = [system, asked, {"role": "assistant", "tool_calls": [call]}, {**result, "tool_call_id": "c1"}]
    lengths = [complete(openai_client, chat, [WEATHER]).usage.prompt_tokens]

    arguments = {"city": "Paris"}
    told = {**call, "function": {"name": "get_weather", "arguments": arguments}}
    ollamas: Any = [system, asked, {"role": "assistant", "tool_calls": [told]}, {**result, "tool_name": "get_weather"}]
    lengths.append(ollama_client.chat("grist", ollamas, tools=[WEATHER]).prompt_eval_count)

    items: Any = [
        asked,
        {"type": "function_call", "call_id": "c1", **function},
        {"type": "function_call_output", "call_id": "c1", "output": answered},
    ]
    flat: Any = [{"type": "function", **named, "parameters": schema, "strict": None}]
    response = openai_client.responses.create(model="grist", instructions=system["content"], input=items, tools=flat)
    assert response.usage is not None
    lengths.append(response.usage.input_tokens)

    blocks: Any = [
        asked,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "get_weather", "input": arguments}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": answered}]},
    ]
    declared: Any = [{**named, "input_schema": schema}]
    counted = anthropic_client.messages.count_tokens(
        model="grist", system=system["content"], messages=blocks, tools=declared
    )
    lengths.append(counted.input_tokens)
    assert len(set(lengths)) == 1, lengths


def test_a_question_without_need_of_a_tool_is_answered(openai_client: OpenAI) -> None:
    messages = [{"role": "user", "content": "What is the capital of Norway?"}]
    message = complete(openai_client, messages, [WEATHER, TIMER]).choices[0].message
    assert (message.content, message.tool_calls) == ("The capital of Norway is Oslo.", None)


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"get_weather", "set_timer"}),
        ({"type": "function", "function": {"name": "set_timer"}}, {"set_timer"}),
    ],
)
def test_calls_that_are_demanded_are_made(
    openai_client: OpenAI, choice: Any, names: set[str], temperature: float
) -> None:
    demand = {"tool_choice": choice, "parallel_tool_calls": False, "seed": 3, "max_tokens": 200}
    messages = [{"role": "user", "content": "Hello!"}]
    (found,) = complete(openai_client, messages, [WEATHER, TIMER], temperature=temperature, **demand).choices
    (called,) = found.message.tool_calls
    assert (found.finish_reason, found.message.content) == ("tool_calls", None)
    assert called.function.name in names
    wanted = str if called.function.name == "get_weather" else int
    ((_name, value),) = json.loads(called.function.arguments).items()
    assert isinstance(value, wanted)


def test_with_tool_choice_none_nothing_is_called(openai_client: OpenAI) -> None:
    messages = [{"role": "user", "content": "What is the capital of Norway?"}]
    message = complete(openai_client, messages, [WEATHER], tool_choice="none").choices[0].message
    assert (message.content, message.tool_calls) == ("The capital of Norway is Oslo.", None)


def test_strict_tools_and_a_response_format_go_together(openai_client: OpenAI) -> None:
    strict = tool("get_weather", "Get the current weather in a city", "city", "string", strict=True)
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    for fields in ({}, {"response_format": {"type": "json_object"}}):
        (called,) = complete(openai_client, asked, [strict], **fields).choices[0].message.tool_calls
        assert json.loads(called.function.arguments) == {"city": "Paris"}
    greeting = complete(openai_client, [{"role": "user", "content": "Hello!"}], [strict]).choices[0].message
    assert greeting.content
    assert greeting.tool_calls is None


def test_ollama_is_told_of_the_capability_and_honours_a_tool_choice(address: str, ollama_client: ollama.Client) -> None:
    assert ollama_client.show("grist").capabilities == ["completion", "tools"]

    body = {
        "model": "grist",
        "messages": [{"role": "user", "content": "Hello!"}],
        "tools": [WEATHER, TIMER],
        "tool_choice": "required",
        "stream": False,
    }
    message = httpx.post(f"{address}/api/chat", json=body, timeout=30).json()["message"]
    assert message["tool_calls"]
    assert message["content"] == ""
