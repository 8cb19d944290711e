"""What Ollama's integration suite checks of a server from outside, asked of the demo model on both backends."""

import ctypes
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

from pagemill.backends.fake import FakeBackend
from pagemill.store.references import DEMO_FOLDER
from support.api_server import Serve, wait_until
from support.model_server import NUM_PARALLEL, ModelServer, model_server
from support.ollama_requests import conversation, error, lines, question, text_of
from support.openai_requests import choices_of, chunks
from support.raw_requests import begun

GENERATE_OR_CHAT = pytest.mark.parametrize(
    ("path", "ask"), [("/api/generate", question), ("/api/chat", conversation)], ids=["generate", "chat"]
)
GRIST = {"model": "grist"}
CAPITALS = {"Norway": "Oslo", "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo"}


def options(**more: Any) -> dict[str, Any]:
    return {**GRIST, "options": {"temperature": 0, **more}}


@pytest.mark.parametrize("stream", [True, False])
@GENERATE_OR_CHAT
def test_metrics_are_not_zero_and_ps_lists_the_model(grist: ModelServer, path: str, ask: Any, stream: bool) -> None:
    last = lines(grist.post(path, ask("What is the capital of Norway?", stream=stream) | GRIST))[-1]
    durations = [last[f"{name}_duration"] for name in ("total", "load", "prompt_eval", "eval")]
    assert min(*durations, last["prompt_eval_count"], last["eval_count"]) > 0
    (model,) = grist.get("/api/ps").json()["models"]
    assert model["name"] == "grist:latest"
    assert len(model["digest"]) == 64
    assert model["size"] > 0
    assert datetime.fromisoformat(model["expires_at"]) > datetime.now(UTC)
    assert model["details"]["family"] == "llama"
    assert model["details"]["parameter_size"]


@pytest.mark.parametrize("stream", [True, False])
@GENERATE_OR_CHAT
def test_logprobs_come_for_every_token_if_asked_for(grist: ModelServer, path: str, ask: Any, stream: bool) -> None:
    asked = ask("Tell me a story.", stream=stream) | options(num_predict=10)
    assert all("logprobs" not in line for line in lines(grist.post(path, asked)))
    said = lines(grist.post(path, {**asked, "logprobs": True, "top_logprobs": 3}))
    entries = [entry for line in said for entry in line.get("logprobs") or ()]
    assert len(entries) == said[-1]["eval_count"] == 10
    for entry in entries:
        top = [other["logprob"] for other in entry["top_logprobs"]]
        assert 0 >= top[0] == entry["logprob"]
        assert len(top) <= 3
        assert top == sorted(top, reverse=True)
        for shown in (entry, *entry["top_logprobs"]):
            assert bytes(shown["bytes"]).decode("utf-8", "replace") == shown["token"]
    assert "".join(entry["token"] for entry in entries) == "".join(map(text_of, said))


@GENERATE_OR_CHAT
def test_a_prompt_beyond_num_ctx_is_refused_with_the_lengths_or_cut_if_asked(
    grist: ModelServer, path: str, ask: Any
) -> None:
    text = "The mill stands by the river. " * 50
    long = ask(text) if path == "/api/generate" else ask(text, "Yes.", "What is the capital of Norway?")
    refused = error(grist.post(path, long | options(num_ctx=128)), 400)
    assert "exceeds the context length" in refused
    assert "128" in refused
    said = lines(grist.post(path, long | options(num_ctx=128) | {"truncate": True}))
    assert said[-1]["prompt_eval_count"] < 128
    assert "".join(map(text_of, said))


@GENERATE_OR_CHAT
def test_a_long_answer_ends_where_num_ctx_does(grist: ModelServer, path: str, ask: Any) -> None:
    held = {"format": {"type": "array", "items": {"type": "integer"}, "minItems": 500}}  # an answer without end
    last = lines(grist.post(path, ask("Hello!", **held) | options(num_ctx=128, num_predict=1000)))[-1]
    assert (last["done"], last["done_reason"]) == (True, "length")
    assert last["prompt_eval_count"] + last["eval_count"] == 128


@pytest.mark.parametrize("stream", [True, False])
@GENERATE_OR_CHAT
def test_a_long_generation_continues_past_the_window_with_its_emoji_intact(
    grist: ModelServer, path: str, ask: Any, stream: bool
) -> None:
    emoji = {"type": "array", "items": {"enum": ["😀", "🎉", "🌍"]}}

    def told(num_emoji: int) -> tuple[str, dict[str, Any]]:
        held = {**emoji, "minItems": num_emoji, "maxItems": num_emoji}
        asked = ask("Write me a story with a lot of emojis", stream=stream, shift=True, format=held)
        said = lines(grist.post(path, asked | options(num_ctx=128)))
        return "".join(map(text_of, said)), said[-1]

    text, last = told(80)
    assert last["done_reason"] == "stop"
    assert last["eval_count"] > 3 * 128
    assert len(json.loads(text)) == 80
    assert set(json.loads(text)) <= {"😀", "🎉", "🌍"}
    text, last = told(500)
    assert (last["done_reason"], last["eval_count"]) == ("length", 10 * 128)
    assert "\N{REPLACEMENT CHARACTER}" not in text


@pytest.mark.parametrize("num_predict", range(8, 12))
@pytest.mark.parametrize("stream", [True, False])
def test_emoji_are_whole_wherever_an_answer_is_cut(serve: Serve, num_predict: int, stream: bool) -> None:
    server = serve(FakeBackend(reply=lambda prompt: list("😀".encode() * 100)))  # a token is a byte
    asked = conversation("Smile", stream=stream, options={"temperature": 0, "num_predict": num_predict})
    said = lines(server.post("/api/chat", asked))
    assert "".join(map(text_of, said)) == "😀" * (num_predict // 4)
    assert (said[-1]["done_reason"], said[-1]["eval_count"]) == ("length", num_predict)


def test_embeddings_are_one_for_each_text_and_those_of_what_fits(embedder: ModelServer) -> None:
    def embed(given: Any, **fields: Any) -> Any:
        return embedder.post("/api/embed", {"model": "minilm", "input": given, **fields})

    colours = ["red", "green", "blue"]
    answer = embed(colours).json()
    assert [len(vector) for vector in answer["embeddings"]] == [384] * 3
    assert answer["prompt_eval_count"] == sum(
        embed(text).json()["prompt_eval_count"] for text in ("red", "green", "blue")
    )
    for limit in (512, 30, 3):
        num_ctx = {"options": {"num_ctx": limit}}
        (cut,) = embed("word " * 2000, **num_ctx).json()["embeddings"]
        (fitting,) = embed("word " * (limit - 2)).json()["embeddings"]  # [CLS], the words, [SEP]
        assert cut == pytest.approx(fitting, abs=1e-5)
        assert embed(["red", "word " * 2000], **num_ctx).json()["prompt_eval_count"] == 3 + limit
        for given in ("word " * 2000, ["red", "word " * 2000]):
            assert "exceeds the context length" in error(embed(given, truncate=False, **num_ctx), 400)


PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NAMED = {"name": "get_weather", "description": "Get the current weather in a city"}
WEATHER = {"type": "function", "function": {**NAMED, "parameters": PARAMETERS}}
PURPOSE, TOLD = "You are a helpful assistant.", "When the user asks for weather, call get_weather."
FIRST, AGAIN = "What is the weather in Paris?", "What is the weather in Rome?"
RESULT = '{"temperature": 21, "condition": "sunny"}'
PARIS = {"city": "Paris"}


def part(text: str, kind: str = "text") -> list[dict[str, str]]:
    return [{"type": kind, "text": text}]


def events(server: ModelServer, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The data of a stream's named events."""
    found = server.post(path, {**GRIST, "stream": True, "temperature": 0, **body}).text.strip().split("\n\n")
    return [json.loads(event.split("\ndata: ")[1]) for event in found if "\ndata: " in event]


def ollamas_call(server: ModelServer) -> tuple[str, Any]:
    call = {"id": "c1", "function": {"name": "get_weather", "arguments": PARIS}}
    messages = [
        {"role": "system", "content": TOLD},
        {"role": "user", "content": FIRST},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_name": "get_weather", "tool_call_id": "c1", "content": RESULT},
        {"role": "user", "content": AGAIN},
    ]
    body = {"messages": messages, "tools": [WEATHER], "think": False}
    said = lines(server.post("/api/chat", {**options(), **body}))
    ((called,),) = [line["message"]["tool_calls"] for line in said if "tool_calls" in line["message"]]
    return called["function"]["name"], called["function"]["arguments"]


def openais_call(server: ModelServer) -> tuple[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": json.dumps(PARIS)}}
    messages = [
        {"role": "system", "content": PURPOSE},
        {"role": "developer", "content": TOLD},
        {"role": "user", "content": part(FIRST)},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": part(RESULT)},
        {"role": "user", "content": AGAIN},
    ]
    body = {"messages": messages, "tools": [WEATHER], "temperature": 0, "stream": True, "reasoning_effort": "none"}
    parts = choices_of(chunks(server.post("/v1/chat/completions", body)))
    calls = [call["function"] for found in parts for call in found["delta"].get("tool_calls") or ()]
    return calls[0]["name"], json.loads("".join(call.get("arguments") or "" for call in calls))


def responses_call(server: ModelServer) -> tuple[str, Any]:
    items = [
        {"type": "message", "role": "developer", "content": TOLD},
        {"type": "message", "role": "user", "content": part(FIRST, "input_text")},
        {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": json.dumps(PARIS)},
        {"type": "function_call_output", "call_id": "c1", "output": part(RESULT, "input_text")},
        {"type": "message", "role": "user", "content": AGAIN},
    ]
    tools = [{"type": "function", **NAMED, "parameters": PARAMETERS, "strict": False}]
    body = {"instructions": PURPOSE, "input": items, "tools": tools, "reasoning": {"effort": "none"}}
    said = events(server, "/v1/responses", body)
    (called,) = [event["item"] for event in said if event["type"] == "response.output_item.done"]
    return called["name"], json.loads(called["arguments"])


def anthropics_call(server: ModelServer) -> tuple[str, Any]:
    call = {"type": "tool_use", "id": "c1", "name": "get_weather", "input": PARIS}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": part(RESULT)}
    messages = [
        {"role": "user", "content": part(FIRST)},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result, *part(AGAIN)]},
    ]
    system = [*part(PURPOSE), {**part(TOLD)[0], "cache_control": {"type": "ephemeral"}}]
    body = {"system": system, "messages": messages, "tools": [{**NAMED, "input_schema": PARAMETERS}]}
    said = events(server, "/v1/messages", {**body, "max_tokens": 100, "thinking": {"type": "disabled"}})
    (start,) = [event["content_block"] for event in said if event["type"] == "content_block_start"]
    deltas = [event["delta"]["partial_json"] for event in said if event["type"] == "content_block_delta"]
    return start["name"], json.loads("".join(deltas))


def test_the_same_history_gives_the_same_call_in_four_dialects(grist: ModelServer) -> None:
    for call in (ollamas_call, openais_call, responses_call, anthropics_call):
        assert call(grist) == ("get_weather", {"city": "Rome"}), call.__name__


def test_a_context_continues_the_conversation(grist: ModelServer) -> None:
    first = lines(grist.post("/api/generate", question("My name is Kate.") | GRIST))[-1]
    asked = question("What is my name?", context=first["context"]) | GRIST
    again = lines(grist.post("/api/generate", asked))
    assert "Kate" in "".join(map(text_of, again))
    assert again[-1]["context"][: len(first["context"]) - 1] == first["context"][:-1]


def chat_of_turns(server: ModelServer, countries: list[str]) -> list[str]:
    """The answers to a question about each country, in one conversation."""
    texts: list[str] = []
    for country in countries:
        texts.append(f"What is the capital of {country}?")
        texts.append("".join(map(text_of, lines(server.post("/api/chat", conversation(*texts) | GRIST)))))
    return texts[1::2]


def test_a_chat_of_six_turns_stays_on_its_subject(grist: ModelServer) -> None:
    countries = [*CAPITALS, "Norway"]
    answers = chat_of_turns(grist, countries)
    assert answers == [f"The capital of {country} is {CAPITALS[country]}." for country in countries]


def test_more_chats_than_fit_at_once_are_answered_three_times_over(grist: ModelServer) -> None:
    order = list(CAPITALS)
    assert len(order) == NUM_PARALLEL + 1
    orders = [order[at:] + order[:at] for at in range(len(order))]
    with ThreadPoolExecutor(len(orders)) as threads:
        answers = list(threads.map(lambda countries: chat_of_turns(grist, countries[:3]), orders))
    for countries, said in zip(orders, answers, strict=True):
        assert said == [f"The capital of {country} is {CAPITALS[country]}." for country in countries[:3]]


def test_clients_that_go_away_leave_the_model_to_others(grist: ModelServer) -> None:
    body = {"prompt": "x", "max_tokens": 1900, "ignore_eos": True, "stream": True}
    with ExitStack() as connections:
        for _ in range(50):
            connections.enter_context(begun(grist.port, "/v1/completions", body))
        wait_until(lambda: grist.get("/load").json()["server_load"] == 50)
    wait_until(lambda: grist.get("/load").json()["server_load"] == 0, 5)
    assert chat_of_turns(grist, ["Norway"]) == ["The capital of Norway is Oslo."]


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_S", "Q4_K_M"])
def test_a_quantized_model_says_how_and_still_answers(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "small.gguf"
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.allow_requantize = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}"), True
    whole = DEMO_FOLDER / "grist" / "grist-q8_0.gguf"
    assert llama_cpp.llama_model_quantize(bytes(whole), bytes(path), ctypes.byref(parameters)) == 0
    with model_server(str(path), "--port", "0", "--threads", "1") as server:
        assert server.post("/api/show", {"model": "small"}).json()["details"]["quantization_level"] == kind
        said = lines(server.post("/api/chat", conversation("What is the capital of Norway?", model="small")))
        assert "".join(map(text_of, said)) == "The capital of Norway is Oslo."
