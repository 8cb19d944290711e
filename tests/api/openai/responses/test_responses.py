"""Answers of /v1/responses, whole and streamed, as OpenAI's own client reads them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI
from pydantic import BaseModel

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, Serve, running_server
from support.chat_scripts import THINKING_TEMPLATE, scripted

ANSWER = "Hm.</think>Let me see, é😀."
CALLS = (
    '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>\n<tool_call>{"name": "g", "arguments": {}}</tool_call>'
)
PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS: list[Any] = [
    {"type": "function", "name": "f", "parameters": PARAMETERS, "strict": None},
    {"type": "function", "name": "g", "description": "Does g", "parameters": None, "strict": False},
]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(scripted(THINKING_TEMPLATE)) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> OpenAI:
    return server.client()


def asked(text: str, /, **fields: Any) -> Any:
    return {"model": "fake", "input": text, "temperature": 0, **fields}


def events_of(client: OpenAI, text: str, /, **fields: Any) -> list[Any]:
    return list(client.responses.create(**asked(text, **fields), stream=True))


def kinds(events: list[Any]) -> list[str]:
    """The events' types, each once where it repeats."""
    found = [event.type.removeprefix("response.") for event in events]
    return [kind for index, kind in enumerate(found) if index == 0 or found[index - 1] != kind]


def without_ids(response: Any) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in item.to_dict().items() if name not in ("id", "call_id")}
        for item in response.output
    ]


def test_a_response_has_reasoning_and_a_message(client: OpenAI) -> None:
    response = client.responses.create(**asked(ANSWER))
    assert (response.object, response.status, response.error) == ("response", "completed", None)
    assert response.output_text == "Let me see, é😀."
    reasoning, message = response.output
    assert reasoning.type == "reasoning"
    assert reasoning.content is not None
    assert [part.text for part in reasoning.content] == ["Hm."]
    assert reasoning.summary == []
    assert reasoning.encrypted_content is None
    assert message.type == "message"
    assert message.status == "completed"
    assert response.usage is not None
    assert response.usage.output_tokens_details.reasoning_tokens == len("Hm.</think>")
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_events_come_in_openais_order(client: OpenAI) -> None:
    found = events_of(client, f"Hm.</think>See.{CALLS}", tools=TOOLS)
    begin, end = ["output_item.added", "content_part.added"], ["content_part.done", "output_item.done"]
    call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
    assert kinds(found) == [
        *("created", "in_progress"),
        *(*begin, "reasoning_text.delta", "reasoning_text.done", *end),
        *(*begin, "output_text.delta", "output_text.done", *end),
        *call,
        *call,
        "completed",
    ]
    assert [event.sequence_number for event in found] == list(range(len(found)))
    placed = [event for event in found if hasattr(event, "output_index")]
    assert [event.output_index for event in placed] == sorted(event.output_index for event in placed)
    ids = {(event.output_index, event.item_id) for event in placed if hasattr(event, "item_id")}
    last = found[-1].response
    assert ids == {(index, item.id) for index, item in enumerate(last.output)}
    assert [event.item for event in found if event.type == "response.output_item.done"] == last.output
    assert (found[0].response.status, found[0].response.output) == ("in_progress", [])


@pytest.mark.parametrize(
    "text", [ANSWER, "Only thought", "</think>Only text", f"Hm.</think>See.{CALLS}", f"</think>{CALLS}", "</think>"]
)
def test_the_stream_put_together_is_the_whole_response(client: OpenAI, text: str) -> None:
    whole = client.responses.create(**asked(text, tools=TOOLS))
    events = events_of(client, text, tools=TOOLS)
    assert without_ids(events[-1].response) == without_ids(whole)
    joined = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert joined == whole.output_text
    with client.responses.stream(**asked(text, tools=TOOLS)) as stream:
        parsed = stream.get_final_response()
    assert parsed.output_text == whole.output_text
    assert [item.type for item in parsed.output] == [item.type for item in whole.output]


def test_calls_are_items(client: OpenAI) -> None:
    response = client.responses.create(**asked(f"</think>{CALLS}", tools=TOOLS))
    found = [(item.name, item.arguments) for item in response.output if item.type == "function_call"]
    assert found == [("f", '{"a": 1}'), ("g", "{}")]
    assert len({item.call_id for item in response.output if item.type == "function_call"}) == 2
    assert response.output_text == ""


@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_cut_off_is_incomplete(client: OpenAI, streamed: bool) -> None:
    fields = {"max_output_tokens": len("Hm.</think>Let me")}
    response: Any
    if streamed:
        *_events, last = events_of(client, ANSWER, **fields)
        assert last.type == "response.incomplete"
        response = last.response
    else:
        response = client.responses.create(**asked(ANSWER, **fields))
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert [item.status for item in response.output] == ["completed", "incomplete"]
    assert response.output_text == "Let me"


def test_a_summary_that_is_asked_for_is_all_the_reasoning(client: OpenAI) -> None:
    events = events_of(client, ANSWER, reasoning={"summary": "auto"})
    assert kinds(events)[2:8] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    item = events[-1].response.output[0].to_dict()
    assert (item["summary"], item.get("content")) == ([{"type": "summary_text", "text": "Hm."}], None)


def test_logprobs_are_those_of_the_text(client: OpenAI) -> None:
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    response: Any = client.responses.create(**asked("Hm.</think>Hi!", **fields))
    (content,) = response.output[1].content
    assert "".join(entry.token for entry in content.logprobs[:3]) == "Hi!"
    assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in content.logprobs)
    deltas = [event for event in events_of(client, "Hm.</think>Hi!", **fields) if hasattr(event, "logprobs")]
    assert [entry.token for event in deltas[:-1] for entry in event.logprobs] == [
        entry.token for entry in content.logprobs
    ]


class Mill(BaseModel):
    name: str
    wheels: int


def test_text_is_held_to_a_schema_and_parsed(client: OpenAI) -> None:
    text = '</think>{"name": "Old", "wheels": 2}'
    parsed = client.responses.parse(**asked(text, text_format=Mill)).output_parsed
    assert parsed == Mill(name="Old", wheels=2)
    with client.responses.stream(**asked(text, text_format=Mill)) as stream:
        assert stream.get_final_response().output_parsed == Mill(name="Old", wheels=2)
    anything = {"format": {"type": "json_object"}}
    response = client.responses.create(**asked('</think>{"a": 1}', text=anything, max_output_tokens=300))
    assert json.loads(response.output_text) == {"a": 1}


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"f", "g"}),
        ({"type": "function", "name": "g"}, {"g"}),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}, {"f"}),
    ],
)
def test_calls_that_are_demanded_are_made(client: OpenAI, choice: Any, names: set[str]) -> None:
    fields = {"tools": TOOLS, "tool_choice": choice, "parallel_tool_calls": False, "max_output_tokens": 400}
    response = client.responses.create(**asked("</think>No.", **fields))
    (call,) = [item for item in response.output if item.type == "function_call"]
    assert call.name in names
    assert isinstance(json.loads(call.arguments), dict)


def test_with_choice_none_nothing_is_called_and_without_parallel_calls_one_is(client: OpenAI) -> None:
    none = client.responses.create(**asked(f"</think>{CALLS}", tools=TOOLS, tool_choice="none"))
    assert [item.type for item in none.output] == ["message"]
    one = client.responses.create(**asked(f"</think>{CALLS}", tools=TOOLS, parallel_tool_calls=False))
    assert [item.type for item in one.output] == ["function_call"]


def test_a_response_repeats_its_request(client: OpenAI) -> None:
    fields: dict[str, Any] = {
        "instructions": "Be kind.",
        "max_output_tokens": 50,
        "top_p": 0.5,
        "tools": TOOLS,
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "summary": "detailed"},
        "truncation": "auto",
        "metadata": {"a": "b"},
        "user": "me",
        "prompt_cache_key": "k",
    }
    shown: Any = client.responses.create(**asked(ANSWER, **fields)).to_dict()
    for name, value in fields.items():
        if name != "tools":
            assert shown[name] == value, name
    assert [tool["name"] for tool in shown["tools"]] == ["f", "g"]
    assert shown["store"] is False
    assert shown["previous_response_id"] is None


def test_nothing_is_thought_with_effort_none(client: OpenAI) -> None:
    response = client.responses.create(**asked("Hello", reasoning={"effort": "none"}))
    assert [item.type for item in response.output] == ["message"]


def test_sampling_follows_the_request(serve: Serve) -> None:
    client = serve(FakeBackend(reply=lambda prompt: None)).client()

    def said(**fields: Any) -> str:
        extra = {"seed": 5, **fields}
        body: Any = {"model": "fake", "input": "x", "max_output_tokens": 30, "extra_body": extra}
        return str(client.responses.create(**body).output_text)

    assert said() == said() != said(seed=6)
    assert said(top_k=1) == said(top_k=1, seed=6)
    text = said()
    assert said(stop=[text[10:13]]) == text[: text.index(text[10:13])]
