"""Answers that outgrow their context, in the dialects that let them: how far they go, and what of the prompt stays."""

from typing import Any

import pytest

from pagemill.backends.fake import EOS, FakeBackend
from pagemill.engine.engine import EngineConfig
from pagemill.engine.step import SequenceShift, StepPlan
from support.api_server import RunningServer, Serve
from support.ollama_requests import GREEDY, conversation, error, lines, question, text_of

CONTEXT = 128
SONG = "🎵 la 🎶 la " * 40  # 640 tokens: a token is a byte
SYSTEM = "You are a bird, and sing."


class Singer(FakeBackend):
    """Sings the whole song, and notes the shifts that it is told of."""

    def __init__(self, **options: Any) -> None:
        self.shifts: list[SequenceShift] = []
        super().__init__(
            reply=lambda prompt: [*SONG.encode(), EOS], max_model_len=CONTEXT, fail_on=self._note, **options
        )

    def _note(self, plan: StepPlan) -> None:
        self.shifts.extend(plan.shifted)


def ollama(server: RunningServer, path: str, **fields: Any) -> dict[str, Any]:
    ask = question if path == "/api/generate" else conversation
    said = lines(server.post(path, ask("Sing!", **fields)))
    return {**said[-1], "text": "".join(map(text_of, said))}


def openai(server: RunningServer, path: str, **fields: Any) -> Any:
    body = {"messages": [{"role": "user", "content": "Sing!"}]} if "chat" in path else {"prompt": "Sing!"}
    return server.post(path, {"model": "fake", "temperature": 0, **body, **fields})


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_ollamas_shift_goes_on_to_the_answers_end_with_whole_characters(serve: Serve, path: str, stream: bool) -> None:
    backend = Singer()
    answer = ollama(serve(backend), path, shift=True, stream=stream)
    assert answer["text"] == SONG
    assert (answer["done_reason"], answer["eval_count"]) == ("stop", len(SONG.encode()) + 1)
    assert len(backend.shifts) > 5
    if path == "/api/generate":
        context = bytes(token for token in answer["context"] if token < 256).decode()
        assert context.endswith(SONG), "what the context has dropped was said all the same"
        assert len(answer["context"]) == answer["prompt_eval_count"] + answer["eval_count"] - 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_openais_do_so_too_if_asked_to(serve: Serve, path: str) -> None:
    answer = openai(serve(Singer()), path, shift=True, max_tokens=1000).json()
    choice = answer["choices"][0]
    assert (choice["text"] if "text" in choice else choice["message"]["content"]) == SONG
    assert choice["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == len(SONG.encode()) + 1


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
@pytest.mark.parametrize(
    ("setting", "shift", "goes_on"),
    [(False, None, False), (False, False, False), (True, None, True), (True, False, False), (False, True, True)],
)
def test_requests_that_say_nothing_shift_if_the_setting_says_so(
    serve: Serve, path: str, setting: bool, shift: bool | None, goes_on: bool
) -> None:
    answer = ollama(serve(Singer(), context_shift=setting), path, shift=shift, stream=False)
    if goes_on:
        assert answer["done_reason"] == "stop"
    else:
        assert answer["done_reason"] == "length"
        assert answer["prompt_eval_count"] + answer["eval_count"] == CONTEXT


def test_the_setting_is_about_ollamas_requests_alone(serve: Serve) -> None:
    server = serve(Singer(), context_shift=True)
    answer = openai(server, "/v1/chat/completions").json()
    assert answer["usage"]["total_tokens"] == CONTEXT
    assert server.post("/api/generate", question("a", suffix="b")).status_code == 400  # the model can't


def test_an_answer_without_end_ends_after_so_many_contexts(serve: Serve) -> None:
    server = serve(Singer(), config=EngineConfig(max_shifted_contexts=3), max_shifted_contexts=3)
    for num_ctx, num_predict, length in [(128, -1, 384), (64, -1, 192), (64, -2, 192), (64, 150, 150), (64, 5000, 192)]:
        options = {**GREEDY, "num_ctx": num_ctx, "num_predict": num_predict}
        answer = ollama(server, "/api/chat", shift=True, stream=False, options=options)
        assert (answer["eval_count"], answer["done_reason"]) == (length, "length")
    assert openai(server, "/v1/chat/completions", shift=True).json()["usage"]["completion_tokens"] == 384
    refused = openai(server, "/v1/completions", shift=True, max_tokens=385)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "max_tokens"
    assert "max_shifted_contexts" in refused.json()["error"]["message"]


def kept(serve: Serve, path: str, **fields: Any) -> int:
    """How many of a prompt's first tokens stay."""
    backend = Singer()
    server = serve(backend)
    if path.startswith("/api"):
        ollama(server, path, shift=True, stream=False, **fields)
    else:
        assert openai(server, path, shift=True, max_tokens=300, **fields).status_code == 200
    assert {shift.num_kept for shift in backend.shifts} == {backend.shifts[0].num_kept}
    return backend.shifts[0].num_kept


# Of ChatML: a special token, "system\n", the text, a special token, "\n", and "user\n" after another.
OPENING = 1 + 7 + len(SYSTEM) + 2 + 1 + 5
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Sing!"}]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/api/generate", {"system": SYSTEM}),
        ("/api/chat", {"messages": MESSAGES}),
        ("/v1/chat/completions", {"messages": MESSAGES}),
    ],
)
def test_the_system_prompt_stays(serve: Serve, path: str, fields: dict[str, Any]) -> None:
    assert kept(serve, path, **fields) == OPENING
    assert kept(serve, path) == 1 + 5  # "user\n"


@pytest.mark.parametrize(("num_keep", "stays"), [(20, 20), (0, 1), (-1, 25), (100, 63)])
def test_num_keep_says_how_much_of_a_prompt_stays_and_at_most_half_of_the_context(
    serve: Serve, num_keep: int, stays: int
) -> None:
    prompt = "x" * 24  # after BOS
    options = {**GREEDY, "num_keep": num_keep}
    assert kept(serve, "/api/generate", prompt=prompt, raw=True, options=options) == stays
    assert kept(serve, "/v1/completions", prompt=prompt, num_keep=num_keep) == stays


def test_a_prompt_must_fit_unless_it_may_be_truncated(serve: Serve) -> None:
    server = serve(Singer())
    long = "x" * 200
    assert "holds 128" in error(server.post("/api/chat", conversation(long, shift=True)), 400)
    answer = ollama(server, "/api/generate", prompt=long, raw=True, truncate=True, shift=True, stream=False)
    assert answer["prompt_eval_count"] < CONTEXT
    assert answer["text"] == SONG
    assert openai(server, "/v1/completions", prompt=long, shift=True).json()["error"]["param"] == "prompt"
    cut = openai(server, "/v1/completions", prompt=long, shift=True, truncate_prompt_tokens=-1, max_tokens=1000).json()
    assert cut["usage"]["prompt_tokens"] == CONTEXT // 2, "room for the answer, at most half"
    assert cut["choices"][0]["text"] == SONG


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"num_keep": 4}, "num_keep"),
        ({"num_keep": 4, "shift": False}, "num_keep"),
        ({"num_keep": -2, "shift": True}, "num_keep"),
        ({"shift": True, "suffix": "x"}, "shift"),
        ({"shift": 1}, "shift"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(serve: Serve, fields: dict[str, Any], param: str) -> None:
    refused = openai(serve(FakeBackend(infill=True)), "/v1/completions", **fields)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param


def test_a_text_between_two_others_never_shifts(serve: Serve) -> None:
    server = serve(FakeBackend(infill=True), context_shift=True)
    assert lines(server.post("/api/generate", question("a", suffix="b", options={**GREEDY, "num_predict": 2})))
    assert error(server.post("/api/generate", question("a", suffix="b", shift=True)), 400) == (
        "shift is not supported with a suffix"
    )


def test_shifts_are_counted(serve: Serve) -> None:
    backend = Singer()
    server = serve(backend)
    ollama(server, "/api/chat", shift=True)
    assert f'pagemill_context_shifts_total{{model_name="fake"}} {len(backend.shifts)}.0' in server.get("/metrics").text
