"""Agents of pydantic-ai over chat completions, over responses, and over its provider for Ollama."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic_ai import Agent, NativeOutput, PromptedOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider

from clients.served import (
    CAPITAL,
    CAPITAL_ANSWER,
    CHAT_MODEL,
    EXTRACTION,
    MARIA,
    WEATHER,
    WEATHER_ANSWER,
    Person,
    get_weather,
)


def openai_provider(url: str) -> Any:
    return OpenAIProvider(base_url=f"{url}/v1", api_key="unused")


def chat_model(url: str, name: str = CHAT_MODEL) -> Any:
    return OpenAIChatModel(name, provider=openai_provider(url))


def responses_model(url: str) -> Any:
    return OpenAIResponsesModel(CHAT_MODEL, provider=openai_provider(url))


def ollama_model(url: str) -> Any:
    return OllamaModel(CHAT_MODEL, provider=OllamaProvider(base_url=f"{url}/v1"))


@pytest.fixture(params=[chat_model, responses_model, ollama_model])
def model(request: pytest.FixtureRequest, server_url: str) -> Any:
    make: Callable[[str], Any] = request.param
    return make(server_url)


def agent(model: Any, **options: Any) -> Any:
    return Agent(model, model_settings={"temperature": 0}, retries=0, **options)


def test_an_agent_answers(model: Any) -> None:
    assert agent(model).run_sync(CAPITAL).output == CAPITAL_ANSWER


def test_a_streamed_answer_comes_in_pieces(model: Any) -> None:
    texts = list(agent(model).run_stream_sync(CAPITAL).stream_text(delta=True, debounce_by=None))
    assert "".join(texts) == CAPITAL_ANSWER
    assert len(texts) > 1


def test_a_tool_is_called_and_its_result_leads_to_the_answer(model: Any) -> None:
    run = agent(model, tools=[get_weather]).run_sync(WEATHER)
    assert run.output == WEATHER_ANSWER
    assert (run.usage.requests, run.usage.tool_calls) == (2, 1)


@pytest.mark.parametrize("kind", [NativeOutput, PromptedOutput])
def test_an_answer_is_parsed_into_a_class(kind: Any, model: Any) -> None:
    assert agent(model, output_type=kind(Person)).run_sync(EXTRACTION).output == MARIA


def test_a_class_is_a_tool_that_has_to_be_called(model: Any) -> None:
    """The demo model does not know the tool: that it is called, and with the right types, is the grammar's doing."""
    assert isinstance(agent(model, output_type=Person).run_sync(EXTRACTION).output, Person)


def test_an_unknown_model_is_not_found(server_url: str) -> None:
    with pytest.raises(ModelHTTPError, match="nobody") as raised:
        agent(chat_model(server_url, "nobody")).run_sync("Hi")
    assert raised.value.status_code == 404
