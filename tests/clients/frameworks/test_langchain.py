"""LangChain's ChatOpenAI, over chat completions and over responses, and ChatOllama; and the embeddings of both."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

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
    Person,
    assert_alike_are_close,
    get_weather,
)


def chat_openai(url: str, **options: Any) -> Any:
    return ChatOpenAI(model=CHAT_MODEL, base_url=f"{url}/v1", api_key="unused", temperature=0, max_retries=0, **options)


def responses_openai(url: str) -> Any:
    return chat_openai(url, use_responses_api=True)


def chat_ollama(url: str) -> Any:
    return ChatOllama(model=CHAT_MODEL, base_url=url, temperature=0)


MODELS = [chat_openai, responses_openai, chat_ollama]


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, server_url: str) -> Any:
    make: Callable[[str], Any] = request.param
    return make(server_url)


def test_a_chat_answers(model: Any) -> None:
    answer = model.invoke(CAPITAL)
    assert answer.text == CAPITAL_ANSWER
    assert answer.usage_metadata["output_tokens"] > 1


def test_asynchronous_chats_answer_beside_one_another(server_url: str) -> None:
    async def ask() -> list[Any]:
        return await asyncio.gather(*(make(server_url).ainvoke(CAPITAL) for make in MODELS))

    assert [answer.text for answer in asyncio.run(ask())] == [CAPITAL_ANSWER] * len(MODELS)


def test_a_streamed_chat_comes_in_pieces(model: Any) -> None:
    texts = [chunk.text for chunk in model.stream(CAPITAL)]
    assert "".join(texts) == CAPITAL_ANSWER
    assert len(list(filter(None, texts))) > 1


def test_a_tool_is_called_and_its_result_leads_to_the_answer(model: Any) -> None:
    with_tool = model.bind_tools([get_weather])
    messages: list[Any] = [HumanMessage(WEATHER)]
    called = with_tool.invoke(messages)
    (call,) = called.tool_calls
    messages += [called, ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"])]
    assert with_tool.invoke(messages).text == WEATHER_ANSWER


def test_a_call_is_put_together_from_a_stream(model: Any) -> None:
    first, *rest = model.bind_tools([get_weather]).stream(WEATHER)
    for chunk in rest:
        first += chunk
    assert [(call["name"], call["args"]) for call in first.tool_calls] == [("get_weather", {"city": "Paris"})]


def test_an_answer_is_parsed_into_a_class(model: Any) -> None:
    assert model.with_structured_output(Person, method="json_schema").invoke(EXTRACTION) == MARIA


def embed_openai(url: str) -> Any:
    """Left to itself LangChain would send the tokens of OpenAI's vocabulary."""
    options: Any = {"model": EMBEDDING_MODEL, "base_url": f"{url}/v1", "api_key": "unused"}
    return OpenAIEmbeddings(check_embedding_ctx_length=False, **options)


def embed_ollama(url: str) -> Any:
    return OllamaEmbeddings(model=EMBEDDING_MODEL, base_url=url)


@pytest.mark.parametrize("make", [embed_openai, embed_ollama])
def test_embeddings_tell_what_is_alike(make: Callable[[str], Any], server_url: str) -> None:
    assert_alike_are_close(make(server_url).embed_documents(SENTENCES))
