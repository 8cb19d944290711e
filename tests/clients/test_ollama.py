"""Ollama's own client of a running server: chat, generate, formats, tools, embeddings, models, errors."""

from collections.abc import Iterator
from typing import Any

import ollama
import pytest

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

GREEDY = ollama.Options(temperature=0)


@pytest.fixture
def client(server_url: str) -> Iterator[ollama.Client]:
    with ollama.Client(host=server_url) as made:
        yield made


def test_a_chat_answers(client: ollama.Client) -> None:
    answer = client.chat(CHAT_MODEL, say(CAPITAL), options=GREEDY)
    assert (answer.message.role, answer.message.content) == ("assistant", CAPITAL_ANSWER)
    assert (answer.done, answer.done_reason) == (True, "stop")


def test_a_streamed_chat_comes_in_pieces(client: ollama.Client) -> None:
    parts = list(client.chat(CHAT_MODEL, say(CAPITAL), options=GREEDY, stream=True))
    assert "".join(part.message.content or "" for part in parts) == CAPITAL_ANSWER
    assert len(parts) > 2
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]


def test_generate_answers_and_goes_on_from_its_context(client: ollama.Client) -> None:
    told = client.generate(CHAT_MODEL, "My name is Maria.", options=GREEDY)
    asked = client.generate(CHAT_MODEL, "What is my name?", context=told.context, options=GREEDY)
    assert "Maria" in (asked.response or "")


def test_a_format_holds_the_answer_to_a_class(client: ollama.Client) -> None:
    answer = client.chat(CHAT_MODEL, say(EXTRACTION), format=Person.model_json_schema(), options=GREEDY)
    assert Person.model_validate_json(answer.message.content or "") == MARIA


@pytest.mark.parametrize("stream", [False, True])
def test_a_function_is_called_and_its_result_leads_to_the_answer(client: ollama.Client, stream: bool) -> None:
    """The client makes a tool of the function itself."""

    def ask() -> list[ollama.ChatResponse]:
        options: Any = {"tools": [get_weather], "options": GREEDY, "stream": stream}
        found = client.chat(CHAT_MODEL, messages, **options)
        return list(found) if stream else [found]

    messages = say(WEATHER)
    (message,) = [part.message for part in ask() if part.message.tool_calls]
    (call,) = message.tool_calls or ()
    result = {"role": "tool", "tool_name": call.function.name, "content": get_weather(**call.function.arguments)}
    messages += [message, result]
    assert "".join(part.message.content or "" for part in ask()) == WEATHER_ANSWER


def test_embeddings_tell_what_is_alike(client: ollama.Client) -> None:
    assert_alike_are_close([list(found) for found in client.embed(EMBEDDING_MODEL, SENTENCES).embeddings])


def test_models_are_listed_shown_and_running(client: ollama.Client) -> None:
    name = f"{CHAT_MODEL}:latest"
    assert name in [model.model for model in client.list().models]
    assert name in [model.model for model in client.ps().models]
    assert "tools" in (client.show(CHAT_MODEL).capabilities or ())


async def test_the_async_client_answers_and_streams(server_url: str) -> None:
    async with ollama.AsyncClient(host=server_url) as client:
        answer = await client.chat(CHAT_MODEL, say(CAPITAL), options=GREEDY)
        assert answer.message.content == CAPITAL_ANSWER
        parts = await client.chat(CHAT_MODEL, say(CAPITAL), options=GREEDY, stream=True)
        assert "".join([part.message.content or "" async for part in parts]) == CAPITAL_ANSWER


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "options", "status", "words"),
    [("nobody", {}, 404, "nobody"), (CHAT_MODEL, {"temperature": "warm"}, 400, "temperature")],
)
def test_errors_have_their_status_and_words(
    client: ollama.Client, model: str, options: Any, status: int, words: str, stream: bool
) -> None:
    with pytest.raises(ollama.ResponseError, match=words) as raised:
        list(client.chat(model, say("Hi"), options=options, stream=stream))  # type: ignore[call-overload]
    assert raised.value.status_code == status


def test_a_wrong_key_is_refused(guarded_url: str) -> None:
    keys = {key: {"Authorization": f"Bearer {key}"} for key in ("wrong", KEY)}
    with (
        ollama.Client(host=guarded_url, headers=keys["wrong"]) as client,
        pytest.raises(ollama.ResponseError) as raised,
    ):
        client.chat(CHAT_MODEL, say("Hi"))
    assert raised.value.status_code == 401
    with ollama.Client(host=guarded_url, headers=keys[KEY]) as client:
        assert client.chat(CHAT_MODEL, say(CAPITAL), options=GREEDY).message.content == CAPITAL_ANSWER
