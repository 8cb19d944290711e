"""Anthropic's own client of a running server: messages, streams, tools and their runner, parsed answers, errors."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from clients.served import (
    CAPITAL,
    CAPITAL_ANSWER,
    CHAT_MODEL,
    EXTRACTION,
    KEY,
    MARIA,
    WEATHER,
    WEATHER_ANSWER,
    WEATHER_PARAMETERS,
    Person,
    get_weather,
    say,
)

TOOL: Any = {
    "name": "get_weather",
    "description": "Get the current weather in a city",
    "input_schema": WEATHER_PARAMETERS,
}


def connect(url: str, api_key: str = "unused") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key=api_key, max_retries=0)


@pytest.fixture
def client(server_url: str) -> Iterator[anthropic.Anthropic]:
    with connect(server_url) as made:
        yield made


def asked(text: str, **fields: Any) -> dict[str, Any]:
    """A message's body. The client has no temperature of its own any more, so it goes the way of other fields."""
    body = {"model": CHAT_MODEL, "messages": say(text), "max_tokens": 100}
    return {**body, "extra_body": {"temperature": 0}, **fields}


def test_a_message_answers(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**asked(CAPITAL))
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": CAPITAL_ANSWER}]
    assert (message.role, message.stop_reason) == ("assistant", "end_turn")
    assert message.usage.output_tokens > 1


def test_a_streamed_message_has_its_events_in_order(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**asked(CAPITAL)) as stream:
        events = [event.type for event in stream]
        text = stream.get_final_text()
    assert text == CAPITAL_ANSWER
    assert [kind for kind in dict.fromkeys(events) if kind not in ("text", "ping")] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events.count("content_block_delta") > 1


def test_a_message_is_parsed_into_a_class(client: anthropic.Anthropic) -> None:
    assert client.messages.parse(**asked(EXTRACTION), output_format=Person).parsed_output == MARIA


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_is_called_and_its_result_leads_to_the_answer(client: anthropic.Anthropic, streamed: bool) -> None:
    body = asked(WEATHER, tools=[TOOL])
    if streamed:
        with client.messages.stream(**body) as stream:
            message: Any = stream.get_final_message()
    else:
        message = client.messages.create(**body)
    (call,) = message.content
    assert (message.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "get_weather")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": get_weather(**call.input)}
    body["messages"] += [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    (block,) = client.messages.create(**body).content
    assert block.to_dict() == {"type": "text", "text": WEATHER_ANSWER}


def test_the_clients_tool_runner_gets_to_the_answer(client: anthropic.Anthropic) -> None:
    tool = anthropic.beta_tool(get_weather, description=TOOL["description"])
    messages = list(client.beta.messages.tool_runner(**asked(WEATHER, tools=[tool])))
    assert [message.stop_reason for message in messages] == ["tool_use", "end_turn"]
    (block,) = messages[-1].content
    assert block.type == "text"
    assert block.text == WEATHER_ANSWER


def test_tokens_are_counted_as_they_are_used(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model=CHAT_MODEL, messages=say(WEATHER), tools=[TOOL])
    usage = client.messages.create(**asked(WEATHER, tools=[TOOL])).usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_models_are_listed_and_found(client: anthropic.Anthropic) -> None:
    assert CHAT_MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(CHAT_MODEL).id == CHAT_MODEL


async def test_the_async_client_answers_and_streams(server_url: str) -> None:
    async with anthropic.AsyncAnthropic(base_url=server_url, api_key="unused", max_retries=0) as client:
        message = await client.messages.create(**asked(CAPITAL))
        assert [block.to_dict() for block in message.content] == [{"type": "text", "text": CAPITAL_ANSWER}]
        async with client.messages.stream(**asked(CAPITAL)) as stream:
            assert "".join([text async for text in stream.text_stream]) == CAPITAL_ANSWER


def test_an_unknown_model_is_not_found(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="nobody"):
        client.messages.create(**asked("Hi", model="nobody"))


def test_a_bad_parameter_is_a_bad_request_that_names_it(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="top_p"):
        client.messages.create(**asked("Hi", extra_body={"top_p": 7}))


def test_a_wrong_key_is_an_authentication_error(guarded_url: str) -> None:
    with connect(guarded_url, "wrong") as client, pytest.raises(anthropic.AuthenticationError):
        client.messages.create(**asked("Hi"))
    with connect(guarded_url, KEY) as client:
        assert client.messages.create(**asked(CAPITAL)).stop_reason == "end_turn"
