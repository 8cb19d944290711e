"""OpenAI's own client of a running server: chat, responses, embeddings, tools, parsed answers, errors."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from clients.served import (
    CAPITAL,
    CAPITAL_ANSWER,
    CHAT_MODEL,
    EMBEDDING_MODEL,
    EXTRACTION,
    KEY,
    MARIA,
    SENTENCES,
    WEATHER,
    WEATHER_ANSWER,
    Person,
    assert_alike_are_close,
    get_weather,
    say,
)


class WeatherCall(BaseModel):
    """Get the current weather in a city"""

    city: str


TOOL = openai.pydantic_function_tool(WeatherCall, name="get_weather")
RESPONSES_TOOL: Any = {"type": "function", **TOOL["function"]}


def connect(url: str, api_key: str = "unused") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=api_key, max_retries=0)


@pytest.fixture
def client(server_url: str) -> Iterator[openai.OpenAI]:
    with connect(server_url) as made:
        yield made


def asked(text: str, **fields: Any) -> dict[str, Any]:
    """A chat completion's body."""
    return {"model": CHAT_MODEL, "messages": say(text), "temperature": 0, **fields}


def asked_as_response(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": CHAT_MODEL, "input": text, "temperature": 0, **fields}


def test_a_chat_completion_answers(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(**asked(CAPITAL))
    (choice,) = completion.choices
    assert (choice.message.content, choice.finish_reason) == (CAPITAL_ANSWER, "stop")
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_a_streamed_completion_has_its_events_and_its_usage(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(**asked(CAPITAL), stream_options={"include_usage": True}) as stream:
        events = list(stream)
        completion = stream.get_final_completion()
    deltas = [event.delta for event in events if event.type == "content.delta"]
    assert len(deltas) > 1
    assert "".join(deltas) == completion.choices[0].message.content == CAPITAL_ANSWER
    assert [event.content for event in events if event.type == "content.done"] == [CAPITAL_ANSWER]
    assert completion.usage is not None
    assert completion.usage.completion_tokens > 1


def test_a_completion_is_parsed_into_a_class(client: openai.OpenAI) -> None:
    (choice,) = client.chat.completions.parse(**asked(EXTRACTION), response_format=Person).choices
    assert choice.message.parsed == MARIA


def test_a_streamed_completion_is_parsed_into_a_class(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(**asked(EXTRACTION), response_format=Person) as stream:
        parsed = [event.parsed for event in stream if event.type == "content.done"]
    assert parsed == [MARIA]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_is_called_and_its_result_leads_to_the_answer(client: openai.OpenAI, streamed: bool) -> None:
    body = asked(WEATHER, tools=[TOOL])
    if streamed:
        with client.chat.completions.stream(**body) as stream:
            message: Any = stream.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.parse(**body).choices[0].message
    (call,) = message.tool_calls
    assert call.function.parsed_arguments == WeatherCall(city="Paris")
    result = {"role": "tool", "tool_call_id": call.id, "content": get_weather(call.function.parsed_arguments.city)}
    body["messages"] += [message, result]
    assert client.chat.completions.parse(**body).choices[0].message.content == WEATHER_ANSWER


def test_a_response_answers(client: openai.OpenAI) -> None:
    response = client.responses.create(**asked_as_response(CAPITAL))
    assert (response.status, response.output_text) == ("completed", CAPITAL_ANSWER)


def test_a_streamed_response_has_its_events_in_order(client: openai.OpenAI) -> None:
    with client.responses.stream(**asked_as_response(CAPITAL)) as stream:
        events: list[Any] = list(stream)
        response = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events if event.type != "response.output_text.delta"]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == response.output_text == CAPITAL_ANSWER


def test_a_response_is_parsed_into_a_class(client: openai.OpenAI) -> None:
    assert client.responses.parse(**asked_as_response(EXTRACTION), text_format=Person).output_parsed == MARIA


@pytest.mark.parametrize("streamed", [False, True])
def test_a_response_calls_a_tool_and_its_result_leads_to_the_answer(client: openai.OpenAI, streamed: bool) -> None:
    items = say(WEATHER)
    body: Any = {"model": CHAT_MODEL, "input": items, "tools": [RESPONSES_TOOL], "temperature": 0}
    if streamed:
        with client.responses.stream(**body) as stream:
            called = stream.get_final_response().output
    else:
        called = client.responses.create(**body).output
    (call,) = called
    assert call.type == "function_call"
    report = get_weather(**json.loads(call.arguments))
    items += [call, {"type": "function_call_output", "call_id": call.call_id, "output": report}]
    assert client.responses.create(**body).output_text == WEATHER_ANSWER


@pytest.mark.parametrize("fields", [{}, {"encoding_format": "float"}])  # left to itself the client asks for base64
def test_embeddings_tell_what_is_alike(client: openai.OpenAI, fields: Any) -> None:
    answer = client.embeddings.create(model=EMBEDDING_MODEL, input=SENTENCES, **fields)
    assert_alike_are_close([item.embedding for item in answer.data])


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert CHAT_MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(CHAT_MODEL).id == CHAT_MODEL


async def test_the_async_client_answers_and_streams(server_url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server_url}/v1", api_key="unused", max_retries=0) as client:
        completion = await client.chat.completions.create(**asked(CAPITAL))
        assert completion.choices[0].message.content == CAPITAL_ANSWER
        chunks = [chunk async for chunk in await client.chat.completions.create(**asked(CAPITAL), stream=True)]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == CAPITAL_ANSWER
        async with client.responses.stream(**asked_as_response(CAPITAL)) as stream:
            assert (await stream.get_final_response()).output_text == CAPITAL_ANSWER


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody") as raised:
        client.chat.completions.create(**asked("Hi", model="nobody"))
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.responses.create(**asked_as_response("Hi", model="nobody"))


@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_parameter_is_a_bad_request_that_names_it(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**asked("Hi", top_p=7), stream=stream)
    assert raised.value.param == "top_p"


def test_a_wrong_key_is_an_authentication_error(guarded_url: str) -> None:
    with connect(guarded_url, "wrong") as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(**asked("Hi"))
    with connect(guarded_url, KEY) as client:
        assert client.chat.completions.create(**asked(CAPITAL)).choices[0].message.content == CAPITAL_ANSWER
