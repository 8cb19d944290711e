"""What a model was given beside its weights, in every dialect: it holds where a request says nothing else."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest

from pagemill.backends.fake import EOS, FakeBackend
from pagemill.engine.step import StepPlan, StepResult
from pagemill.generation import SamplingParams
from pagemill.store.model_defaults import ModelDefaults
from support.api_server import RunningServer, Serve, fake_reference, running_server
from support.chat_scripts import parrot

PARAMETERS = {
    "temperature": 0.25,
    "top_k": 7,
    "top_p": 0.5,
    "min_p": 0.1,
    "typical_p": 0.75,
    "repeat_penalty": 1.25,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.125,
    "repeat_last_n": 9,
    "seed": 5,
    "stop": ("END", "FIN"),
    "num_predict": 40,
}
AS_SAMPLING = {
    "temperature": 0.25,
    "top_k": 7,
    "top_p": 0.5,
    "min_p": 0.1,
    "typical_p": 0.75,
    "repetition_penalty": 1.25,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.125,
    "penalty_last_n": 9,
    "seed": 5,
    "stop": ("END", "FIN"),
    "max_tokens": 40,
}
EXAMPLES = ({"role": "user", "content": "ping"}, {"role": "assistant", "content": "pong"})
DEFAULTS = ModelDefaults(system="Be Mario.", messages=EXAMPLES, parameters=PARAMETERS)
Ask = Callable[..., httpx.Response]


class Recorder(FakeBackend):
    """A parrot that notes how each sequence is to be sampled."""

    def __init__(self) -> None:
        super().__init__(reply=parrot)
        self.samplings: list[SamplingParams] = []

    def execute(self, plan: StepPlan) -> StepResult:
        self.samplings += [start.sampling for start in plan.started]
        return super().execute(plan)


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def server(recorder: Recorder) -> Iterator[RunningServer]:
    with running_server(recorder, reference=replace(fake_reference(), defaults=DEFAULTS)) as running:
        yield running


def messages(text: str, system: str | None = None) -> list[dict[str, str]]:
    own = [] if system is None else [{"role": "system", "content": system}]
    return [*own, {"role": "user", "content": text}]


def by_ollama_chat(server: RunningServer, text: str, system: str | None = None, **options: Any) -> httpx.Response:
    body = {"model": "fake", "messages": messages(text, system), "stream": False, "options": options}
    return server.post("/api/chat", body)


def by_ollama_generate(server: RunningServer, text: str, system: str | None = None, **options: Any) -> httpx.Response:
    body = {"model": "fake", "prompt": text, "system": system, "stream": False, "options": options}
    return server.post("/api/generate", body)


def by_openai_chat(server: RunningServer, text: str, system: str | None = None, **fields: Any) -> httpx.Response:
    return server.post("/v1/chat/completions", {"messages": messages(text, system), **fields})


def by_responses(server: RunningServer, text: str, system: str | None = None, **fields: Any) -> httpx.Response:
    return server.post("/v1/responses", {"input": text, "instructions": system, **fields})


def by_anthropic(server: RunningServer, text: str, system: str | None = None, **fields: Any) -> httpx.Response:
    own = {} if system is None else {"system": system}
    body = {"model": "fake", "max_tokens": 40, "messages": messages(text), **own, **fields}
    return server.post("/v1/messages", body)


READERS: Mapping[Ask, Callable[[Any], str]] = {
    by_ollama_chat: lambda answer: answer["message"]["content"],
    by_ollama_generate: lambda answer: answer["response"],
    by_openai_chat: lambda answer: answer["choices"][0]["message"]["content"],
    by_responses: lambda answer: answer["output"][0]["content"][0]["text"],
    by_anthropic: lambda answer: answer["content"][0]["text"],
}
in_every_dialect = pytest.mark.parametrize("ask", list(READERS), ids=lambda ask: ask.__name__)


def said(ask: Ask, *args: Any, **options: Any) -> str:
    answered = ask(*args, **options)
    assert answered.status_code == 200, answered.text
    return READERS[ask](answered.json())


@in_every_dialect
def test_the_models_system_prompt_and_messages_come_first(server: RunningServer, ask: Ask) -> None:
    assert said(ask, server, "Hello") == "{Be Mario.}ping|Hello"


@in_every_dialect
def test_a_system_prompt_of_the_request_is_in_place_of_the_models(server: RunningServer, ask: Ask) -> None:
    assert said(ask, server, "Hello", "Be Luigi.") == "{Be Luigi.}ping|Hello"


@in_every_dialect
def test_the_models_parameters_are_how_it_samples(server: RunningServer, recorder: Recorder, ask: Ask) -> None:
    said(ask, server, "Hello")
    sampled = recorder.samplings[-1]
    assert {name: getattr(sampled, name) for name in AS_SAMPLING} == AS_SAMPLING


@pytest.mark.parametrize(
    ("ask", "asked"),
    [
        (by_ollama_chat, {"temperature": 1, "top_k": 0, "stop": ["HALT"], "num_predict": 30, "seed": 8}),
        (by_ollama_generate, {"temperature": 1, "top_k": 0, "stop": ["HALT"], "num_predict": 30, "seed": 8}),
        (by_openai_chat, {"temperature": 1, "top_k": -1, "stop": "HALT", "max_completion_tokens": 30, "seed": 8}),
        (by_responses, {"temperature": 1, "top_k": 0, "stop": ["HALT"], "max_output_tokens": 30, "seed": 8}),
        (by_anthropic, {"temperature": 1, "top_k": 0, "stop_sequences": ["HALT"], "max_tokens": 30}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_the_request_says_goes_before(
    server: RunningServer, recorder: Recorder, ask: Ask, asked: dict[str, Any]
) -> None:
    """A list of stop strings is in place of the model's, it is not added to it."""
    said(ask, server, "Hello", **asked)
    expected = {**AS_SAMPLING, "temperature": 1.0, "top_k": 0, "stop": ("HALT",), "max_tokens": 30}
    expected["seed"] = 8 if "seed" in asked else 5  # Anthropic's dialect has none
    sampled = recorder.samplings[-1]
    assert {name: getattr(sampled, name) for name in expected} == expected


@in_every_dialect
def test_an_empty_list_of_stop_strings_takes_the_models_away(server: RunningServer, ask: Ask) -> None:
    name = "stop_sequences" if ask is by_anthropic else "stop"
    assert said(ask, server, "one END two") == "{Be Mario.}ping|one "
    assert said(ask, server, "one END two", **{name: []}) == "{Be Mario.}ping|one END two"


def test_a_completion_is_sampled_by_the_parameters_and_has_no_system_prompt(
    server: RunningServer, recorder: Recorder
) -> None:
    server.post("/v1/completions", {"prompt": "Hello"})
    assert (recorder.samplings[-1].temperature, recorder.samplings[-1].max_tokens) == (0.25, 40)
    usage = server.post("/v1/completions", {"prompt": "Hello", "max_tokens": 3}).json()["usage"]
    assert recorder.samplings[-1].max_tokens == 3
    assert usage["prompt_tokens"] == len("Hello") + 1  # the token that begins a text


def test_a_raw_prompt_has_no_system_prompt(server: RunningServer) -> None:
    answer = server.post("/api/generate", {"model": "fake", "prompt": "Hello", "raw": True, "stream": False}).json()
    assert answer["prompt_eval_count"] == len("Hello") + 1  # likewise


def test_a_context_that_is_continued_begins_once(server: RunningServer) -> None:
    first = server.post("/api/generate", {"model": "fake", "prompt": "One", "stream": False}).json()
    body = {"model": "fake", "prompt": "Two", "stream": False, "context": first["context"]}
    assert server.post("/api/generate", body).json()["response"].startswith("{Be Mario.}ping|One|Two")


def test_tokens_are_counted_as_a_chat_has_them(server: RunningServer) -> None:
    chat = by_openai_chat(server, "Hello").json()["usage"]["prompt_tokens"]
    counted = server.post("/v1/messages/count_tokens", {"model": "fake", "messages": messages("Hello")}).json()
    tokenized = server.post("/tokenize", {"messages": messages("Hello")}).json()
    assert chat == counted["input_tokens"] == tokenized["count"]


def test_a_stop_string_of_the_models_is_none_that_an_anthropic_client_asked_for(server: RunningServer) -> None:
    own = by_anthropic(server, "one END two").json()
    assert (own["stop_reason"], own["stop_sequence"]) == ("end_turn", None)
    asked = by_anthropic(server, "one END two", stop_sequences=["END"]).json()
    assert (asked["stop_reason"], asked["stop_sequence"]) == ("stop_sequence", "END")


@in_every_dialect
def test_a_limit_of_the_models_yields_to_a_full_context(serve: Serve, ask: Ask) -> None:
    """A request that sets such a limit itself is told that it does not fit; the model's is cut."""
    endless = FakeBackend(reply=lambda prompt: [*b"x" * 500, EOS], max_model_len=200)
    defaults = ModelDefaults(parameters={"num_predict": 4000, "top_k": 1})
    small = serve(endless, reference=replace(fake_reference(), defaults=defaults))
    asked = {"max_tokens": 4000} if ask is by_anthropic else {}
    assert len(said(ask, small, "Hello", **asked)) > 100


@pytest.mark.parametrize("num_predict", [-1, -2])
def test_no_limit_of_the_models_is_the_context(serve: Serve, num_predict: int) -> None:
    backend = FakeBackend(reply=lambda prompt: [*b"x" * 500, EOS], max_model_len=200)
    defaults = ModelDefaults(parameters={"num_predict": num_predict, "top_p": 0.0})
    small = serve(backend, reference=replace(fake_reference(), defaults=defaults))
    usage = small.post("/v1/completions", {"prompt": "Hello"}).json()["usage"]
    assert usage["total_tokens"] == 200


@in_every_dialect
@pytest.mark.parametrize(
    "defaults",
    [ModelDefaults(has_go_template=True), ModelDefaults(system="Be Mario."), ModelDefaults(messages=EXAMPLES)],
    ids=["template", "system", "messages"],
)
def test_what_a_model_without_a_chat_template_cannot_use_is_told_of(
    serve: Serve, ask: Ask, defaults: ModelDefaults
) -> None:
    bare = serve(FakeBackend(chat_template=None), reference=replace(fake_reference(), defaults=defaults))
    refused = ask(bare, "Hello")
    assert refused.status_code == 400
    assert '"fake\\" does not support chat: its GGUF file has no chat template, so its ' in refused.text


def test_a_raw_prompt_needs_no_chat_template(serve: Serve) -> None:
    defaults = ModelDefaults(has_go_template=True, system="Be Mario.")
    bare = serve(FakeBackend(chat_template=None), reference=replace(fake_reference(), defaults=defaults))
    answer = bare.post("/api/generate", {"model": "fake", "prompt": "Hello", "raw": True, "stream": False})
    assert answer.json()["done"]
    assert bare.post("/v1/completions", {"prompt": "Hello"}).status_code == 200
