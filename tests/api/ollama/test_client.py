"""Ollama's own Python client, sync and async, streamed and not."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import ollama
import pytest

from support.api_server import RunningServer
from support.ollama_requests import GREEDY


@pytest.fixture
async def async_client(parrots: RunningServer) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(host=parrots.url, timeout=30)
    yield client
    await client.close()  # type: ignore[no-untyped-call]  # the library lacks the annotation


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_sync_client_generates(client: ollama.Client) -> None:
    answer = client.generate("fake", "Hello there", options=GREEDY)
    assert answer.response == "Hello there"
    assert answer.done_reason == "stop"
    parts = list(client.generate("fake", "Hello there", options=GREEDY, stream=True))
    assert "".join(part.response or "" for part in parts) == "Hello there"
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]


def test_the_sync_client_chats(client: ollama.Client) -> None:
    answer = client.chat("fake", say("Hello there"), options=ollama.Options(temperature=0, num_predict=5))
    assert (answer.message.role, answer.message.content, answer.done_reason) == ("assistant", "Hello", "length")
    parts = list(client.chat("fake", say("Hello there"), options=GREEDY, stream=True))
    assert "".join(part.message.content or "" for part in parts) == "Hello there"


async def test_the_async_client_generates_and_chats(async_client: ollama.AsyncClient) -> None:
    answer = await async_client.generate("fake", "Hello", options=GREEDY)
    assert answer.response == "Hello"
    text = ""
    async for part in await async_client.chat("fake", say("Hello"), options=GREEDY, stream=True):
        text += part.message.content or ""
    assert text == "Hello"


async def test_async_clients_stream_beside_one_another(async_client: ollama.AsyncClient) -> None:
    async def ask(number: int) -> str:
        stream = await async_client.chat("fake", say(f"number {number}"), options=GREEDY, stream=True)
        return "".join([part.message.content or "" async for part in stream])

    assert await asyncio.gather(*map(ask, range(10))) == [f"number {number}" for number in range(10)]


def test_a_six_turn_chat_keeps_its_history(client: ollama.Client) -> None:
    messages: list[Any] = [{"role": "system", "content": "Be kind"}]
    for turn in range(6):
        messages += say(f"turn {turn}")
        messages.append(client.chat("fake", messages, options=GREEDY).message)
    assert messages[-1].content == "{Be kind}" + "|".join(f"turn {turn}" for turn in range(6))


def test_generate_takes_a_system_message(client: ollama.Client) -> None:
    assert client.generate("fake", "hi", system="Be kind", options=GREEDY).response == "{Be kind}hi"


def test_the_clients_context_continues_a_conversation(client: ollama.Client) -> None:
    first = client.generate("fake", "one", options=GREEDY)
    assert client.generate("fake", "two", context=first.context, options=GREEDY).response == "one|two"


def test_the_client_loads_and_unloads(client: ollama.Client) -> None:
    assert client.chat("fake").done_reason == "load"
    assert client.generate("fake", keep_alive=600).done_reason == "load"
    (loaded,) = client.ps().models
    assert (loaded.name, loaded.size_vram, loaded.context_length) == ("fake:latest", 0, 4096)


def test_the_client_lists_and_shows(client: ollama.Client) -> None:
    (listed,) = client.list().models
    assert listed.model == "fake:latest"
    assert listed.details is not None
    assert listed.details.family == "fake"
    shown = client.show("fake")
    assert shown.capabilities == ["completion"]
    assert shown.template
    assert "<|im_start|>" in shown.template
    assert shown.parameters is not None
    assert '"<|im_end|>"' in shown.parameters


def test_the_client_gets_errors_with_status_and_words(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as missing:
        client.chat("nemo", say("hi"))
    assert (missing.value.status_code, missing.value.error) == (404, "model 'nemo' not found")
    with pytest.raises(ollama.ResponseError) as thinking:
        next(iter(client.chat("fake", say("hi"), think=True, stream=True)))
    assert (thinking.value.status_code, thinking.value.error) == (400, '"fake" does not support thinking')


def test_a_stop_string_ends_the_answer_before_it(client: ollama.Client) -> None:
    parts = list(client.generate("fake", "one, two, three", options={**GREEDY, "stop": [", th"]}, stream=True))
    assert "".join(part.response or "" for part in parts) == "one, two"
    assert parts[-1].done_reason == "stop"


def test_the_same_seed_gives_the_same_answer(client: ollama.Client) -> None:
    def answer(seed: int) -> str:
        options = {"temperature": 5, "top_k": 0, "top_p": 1, "seed": seed}
        return client.generate("fake", "x" * 40, options=options).response or ""

    assert answer(1) == answer(1)
    assert len({answer(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("stream", [True, False])
def test_logprobs_come_for_every_token_and_only_if_asked_for(client: ollama.Client, stream: bool) -> None:
    options = {**GREEDY, "num_predict": 10}
    asked: dict[str, Any] = {"options": options, "logprobs": True, "top_logprobs": 3}
    ask: Any = client.generate
    answer = ask("fake", "Grüße an alle", **asked, stream=stream)
    parts = list(answer) if stream else [answer]
    logprobs = [entry for part in parts for entry in part.logprobs or ()]
    assert len(logprobs) == 10
    assert all(entry.token for entry in logprobs)
    for entry in logprobs:
        assert entry.logprob <= 0
        values = [other.logprob for other in entry.top_logprobs]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        assert math.isclose(entry.top_logprobs[0].logprob, entry.logprob), "greedy takes the most likely"
    plain = client.generate("fake", "hi", options=options)
    assert plain.logprobs is None


def test_the_end_of_an_answer_has_no_logprobs(client: ollama.Client) -> None:
    answer = client.chat("fake", say("hi"), options=GREEDY, logprobs=True)
    assert answer.logprobs is not None
    assert [entry.token for entry in answer.logprobs] == ["h", "i"]
    assert answer.logprobs[0].top_logprobs is None
