"""LiteLLM over each of its providers that leads here: OpenAI's dialect (also as vLLM's), Ollama's, Anthropic's."""

from typing import Any

import litellm
import pytest

from clients.served import (
    CAPITAL,
    CAPITAL_ANSWER,
    CHAT_MODEL,
    EMBEDDING_MODEL,
    EXTRACTION,
    MARIA,
    SENTENCES,
    WEATHER,
    WEATHER_ANSWER,
    WEATHER_PARAMETERS,
    Person,
    assert_alike_are_close,
    get_weather,
    say,
)

BASE_PATHS = {"openai": "/v1", "hosted_vllm": "/v1", "ollama_chat": "", "ollama": "", "anthropic": ""}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": WEATHER_PARAMETERS,
    },
}


class Provider:
    """LiteLLM's functions with what leads to one server by one provider."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.options: dict[str, Any] = {"api_base": url + BASE_PATHS[name], "api_key": "unused", "max_retries": 0}

    def complete(self, messages: list[Any], model: str = CHAT_MODEL, **fields: Any) -> Any:
        fields = {"temperature": 0, **self.options, **fields}
        return litellm.completion(model=f"{self.name}/{model}", messages=messages, **fields)

    def embed(self, texts: list[str]) -> list[Any]:
        answer = litellm.embedding(model=f"{self.name}/{EMBEDDING_MODEL}", input=texts, **self.options)
        return [item["embedding"] for item in answer.data]


@pytest.fixture(params=["openai", "hosted_vllm", "ollama_chat", "anthropic"])
def provider(request: pytest.FixtureRequest, server_url: str) -> Provider:
    return Provider(request.param, server_url)


def test_a_chat_answers(provider: Provider) -> None:
    (choice,) = provider.complete(say(CAPITAL)).choices
    assert (choice.message.content, choice.finish_reason) == (CAPITAL_ANSWER, "stop")


def test_a_streamed_chat_comes_in_pieces(provider: Provider) -> None:
    texts = [chunk.choices[0].delta.content or "" for chunk in provider.complete(say(CAPITAL), stream=True)]
    assert "".join(texts) == CAPITAL_ANSWER
    assert len(list(filter(None, texts))) > 1


def test_a_tool_is_called_and_its_result_leads_to_the_answer(provider: Provider) -> None:
    messages = say(WEATHER)
    (choice,) = provider.complete(messages, tools=[TOOL]).choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Paris"}')
    report = {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": get_weather("Paris")}
    messages += [choice.message, report]
    assert provider.complete(messages, tools=[TOOL]).choices[0].message.content == WEATHER_ANSWER


@pytest.mark.parametrize("name", ["openai", "hosted_vllm", "ollama_chat"])
def test_an_answer_is_held_to_a_class(name: str, server_url: str) -> None:
    """By Anthropic's provider LiteLLM makes a tool of it, which the demo model does not know."""
    answer = Provider(name, server_url).complete(say(EXTRACTION), response_format=Person)
    assert Person.model_validate_json(answer.choices[0].message.content) == MARIA


@pytest.mark.parametrize("name", ["openai", "ollama"])
def test_embeddings_tell_what_is_alike(name: str, server_url: str) -> None:
    assert_alike_are_close(Provider(name, server_url).embed(SENTENCES))


def test_an_unknown_model_is_not_found(provider: Provider) -> None:
    with pytest.raises(litellm.NotFoundError, match="nobody"):
        provider.complete(say("Hi"), model="nobody")
