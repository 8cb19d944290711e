"""What users of Ollama rely on, in its own dialect: 1 to 18 of the list. Each docstring is its line."""

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from pagemill.backends.fake import FakeBackend
from pagemill.engine.engine import EngineConfig
from pagemill.engine.step import StepPlan
from support.api_server import RunningServer, Serve, wait_until
from support.chat_scripts import THINKING_TEMPLATE, TOOL_TEMPLATE, scripted
from support.model_server import ModelServer
from support.ollama_requests import conversation, error, lines, question, text_of

GENERATE_OR_CHAT = pytest.mark.parametrize(
    ("path", "ask"), [("/api/generate", question), ("/api/chat", conversation)], ids=["generate", "chat"]
)
METRICS = (
    *("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"),
    *("prompt_eval_count", "eval_count"),
)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
COLOURS = {"type": "object", "properties": {"colour": {"enum": ["red", "green"]}}, "required": ["colour"]}


def test_1_the_root_is_text_and_a_wrong_method_405(parrots: RunningServer) -> None:
    """1. Root returns 200 text; unsupported method 405."""
    root = parrots.get("/")
    assert (root.status_code, root.text) == (200, "Pagemill is running")
    assert root.headers["content-type"].startswith("text/plain")
    assert httpx.head(parrots.url).status_code == 200
    for method, path in (("POST", "/"), ("GET", "/api/chat"), ("DELETE", "/api/generate"), ("POST", "/api/tags")):
        refused = httpx.request(method, parrots.url + path)
        assert refused.status_code == 405
        assert refused.headers["allow"]


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/show", "/api/embed"])
def test_2_errors_have_one_member_and_an_empty_body_is_missing(parrots: RunningServer, path: str) -> None:
    """2. Native error `{"error":"..."}`; empty body 400 `missing request body`."""
    assert error(httpx.post(parrots.url + path), 400) == "missing request body"
    assert "model" in error(parrots.post(path, {"model": 1}), 400)


@GENERATE_OR_CHAT
def test_3_a_stream_is_ndjson_and_the_whole_answer_one_object(parrots: RunningServer, path: str, ask: Any) -> None:
    """3. Stream is `application/x-ndjson`. `stream:false` returns one object with the same fields."""
    streamed, whole = parrots.post(path, ask("Grüße 👋")), parrots.post(path, ask("Grüße 👋", stream=False))
    assert streamed.headers["content-type"] == "application/x-ndjson"
    assert whole.headers["content-type"] == "application/json"
    parts = lines(streamed)
    assert len(parts) > 2
    assert "".join(map(text_of, parts)) == text_of(whole.json()) == "Grüße 👋"
    assert whole.json().keys() == parts[-1].keys()


def test_4_lines_before_the_last_have_model_time_text_and_done_false(parrots: RunningServer) -> None:
    """4. Non-final lines: `model, created_at, response|message, done:false`."""
    *generated, _last = lines(parrots.post("/api/generate", question("hello")))
    *chatted, _last = lines(parrots.post("/api/chat", conversation("hello")))
    assert len(generated) == len(chatted) == len("hello")
    for name, parts in (("response", generated), ("message", chatted)):
        for part in parts:
            assert part.keys() == {"model", "created_at", name, "done"}
            assert (part["model"], part["done"]) == ("fake", False)
            assert abs(datetime.fromisoformat(part["created_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert all(part["message"].keys() == {"role", "content"} for part in chatted)


@pytest.mark.parametrize("stream", [True, False])
@GENERATE_OR_CHAT
def test_5_the_last_line_says_why_and_has_every_metric(
    parrots: RunningServer, path: str, ask: Any, stream: bool
) -> None:
    """5. Final line: `done:true, done_reason:"stop"|"length"`, total_duration, load_duration, prompt_eval_count,
    prompt_eval_duration, eval_count, eval_duration (ns). prompt_eval_count includes cached tokens.
    """
    text = f"say this {path} {stream} " * 9
    first, again = (lines(parrots.post(path, ask(text, stream=stream)))[-1] for _ in range(2))
    for last in (first, again):
        assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "stop", len(text) + 1)
        assert all(isinstance(last[name], int) and last[name] > 0 for name in METRICS)
        assert last["total_duration"] >= last["prompt_eval_duration"] + last["eval_duration"]
    assert parrots.engine.stats().cached_prompt_tokens > 0
    assert first["prompt_eval_count"] == again["prompt_eval_count"] > len(text)
    cut = lines(parrots.post(path, ask(text, stream=stream, options={"temperature": 0, "num_predict": 4})))[-1]
    assert (cut["done_reason"], cut["eval_count"]) == ("length", 4)


def test_6_the_context_of_one_answer_continues_the_conversation(parrots: RunningServer) -> None:
    """6. Generate (not raw) final line carries `context`, which continues the conversation when sent back."""
    texts, context = [], None
    for text in ("My name is Ada", "I like numbers", "Who am I?"):
        *parts, last = lines(parrots.post("/api/generate", question(text, context=context)))
        assert all("context" not in part for part in parts)
        texts.append("".join(map(text_of, parts)))
        context = last["context"]
    assert texts[-1] == "My name is Ada|I like numbers|Who am I?"
    assert "context" not in lines(parrots.post("/api/generate", question("x", raw=True)))[-1]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("path", "empty"),
    [("/api/generate", {}), ("/api/generate", {"prompt": ""}), ("/api/chat", {}), ("/api/chat", {"messages": []})],
)
def test_7_nothing_to_say_loads_the_model(serve: Serve, path: str, empty: dict[str, Any], stream: bool) -> None:
    """7. Empty prompt or messages -> load the model, 200, `done_reason:"load"`."""
    server = serve(wait_ready=False, load_delay_s=0.05)
    (answer,) = lines(server.post(path, {"model": "fake", **empty, "stream": stream}))
    assert server.engines, "the model was not loaded"
    assert (answer["done"], answer["done_reason"], text_of(answer)) == (True, "load", "")


@pytest.mark.parametrize("keep_alive", [0, "0", "0s", 0.0])
@pytest.mark.parametrize(("path", "empty"), [("/api/generate", {"prompt": ""}), ("/api/chat", {"messages": []})])
def test_8_nothing_to_say_and_keep_alive_0_unloads_the_model(
    serve: Serve, path: str, empty: dict[str, Any], keep_alive: Any
) -> None:
    """8. Empty with keep_alive 0 -> `"unload"`."""
    server = serve()
    assert len(server.get("/api/ps").json()["models"]) == 1
    (answer,) = lines(server.post(path, {"model": "fake", **empty, "keep_alive": keep_alive}))
    assert (answer["done"], answer["done_reason"]) == (True, "unload")
    assert server.get("/api/ps").json()["models"] == []
    assert server.backend.closed


@pytest.mark.parametrize(
    ("keep_alive", "seconds"),
    [(90, 90), ("90", 90), ("2m", 120), ("1h30m", 5400), (0.5, 0.5), (-1, math.inf), ("-1m", math.inf)],
)
def test_9_keep_alive_is_seconds_or_a_duration_or_for_ever(
    parrots: RunningServer, keep_alive: Any, seconds: float
) -> None:
    """9. keep_alive: seconds, duration string, negative = forever."""
    parrots.post("/api/chat", conversation("hi", keep_alive=keep_alive))
    (model,) = parrots.get("/api/ps").json()["models"]
    left = datetime.fromisoformat(model["expires_at"]) - datetime.now(UTC)
    parrots.post("/api/chat", {"model": "fake", "keep_alive": -1})
    if math.isinf(seconds):
        assert left > timedelta(days=200 * 365)
    else:
        assert abs(left - timedelta(seconds=seconds)) < timedelta(seconds=10)


def test_10_a_missing_model_is_404_and_a_blank_name_400(parrots: RunningServer) -> None:
    """10. Missing model 404: `model 'x' not found`; embed: `model "x" not found, try pulling it first`. Blank name in
    chat: 400 `model is required`.
    """
    for path in ("/api/generate", "/api/chat", "/api/show"):
        assert error(parrots.post(path, {"model": "x"}), 404) == "model 'x' not found"
    for path in ("/api/embed", "/api/embeddings"):
        assert error(parrots.post(path, {"model": "x"}), 404) == 'model "x" not found, try pulling it first'
    for blank in ({}, {"model": ""}):
        assert error(parrots.post("/api/chat", {**conversation("hi"), "model": "", **blank}), 400) == (
            "model is required"
        )


def fails_after(num_steps: int) -> Any:
    """A backend's `fail_on`: the first steps go well."""
    seen: list[int] = []

    def fail_on(plan: StepPlan) -> str | None:
        seen.extend([1] if plan.chunks else [])
        return "the device caught fire" if len(seen) > num_steps else None

    return fail_on


@GENERATE_OR_CHAT
def test_11_a_failure_is_the_last_line_or_has_a_real_status(serve: Serve, path: str, ask: Any) -> None:
    """11. Failure in mid-stream: last line `{"error"}`, status stays 200. Before the first byte: real status and
    JSON.
    """
    *parts, last = lines(serve(FakeBackend(fail_on=fails_after(4))).post(path, ask("hi")))
    assert len(parts) == 4
    assert last == {"error": last["error"]}
    assert "the device caught fire" in last["error"]
    for num_steps, stream in ((0, True), (0, False), (4, False)):
        server = serve(FakeBackend(fail_on=fails_after(num_steps)))
        assert "the device caught fire" in error(server.post(path, ask("hi", stream=stream)), 500)


@pytest.mark.parametrize("stream", [True, False])
def test_12_a_full_queue_is_503(serve: Serve, stream: bool) -> None:
    """12. Queue full -> 503 `server busy, please try again.  maximum pending requests exceeded`."""
    backend = FakeBackend(reply=lambda prompt: [97] * 2000, max_num_seqs=1, step_delay_s=0.01)
    server = serve(backend, config=EngineConfig(max_num_queued_reqs=0, retry_after_s=3))
    with httpx.stream("POST", server.url + "/api/chat", json=conversation("hold the place")) as holder:
        incoming = holder.iter_lines()  # kept: the response is closed with its iterator
        next(incoming)
        response = server.post("/api/generate", question("me too", stream=stream))
        assert error(response, 503) == "server busy, please try again.  maximum pending requests exceeded"
        assert response.headers["retry-after"] == "3"
    wait_until(lambda: server.engine.num_unfinished() == 0)


@GENERATE_OR_CHAT
def test_13_a_format_constrains_the_output_after_the_thinking(
    grist: ModelServer, serve: Serve, path: str, ask: Any
) -> None:
    """13. `format:"json"` or a schema constrains the output; anything else is an error that names `format`. With
    thinking on, the constraint starts after the thinking.
    """
    hot = {"model": "grist", "options": {"temperature": 1.5, "seed": 3, "num_predict": 300}}
    for stream in (True, False):
        said = lines(grist.post(path, ask("A colour?", format=COLOURS, stream=stream) | hot))
        assert said[-1]["done_reason"] == "stop"
        assert json.loads("".join(map(text_of, said)))["colour"] in ("red", "green")
        said = lines(grist.post(path, ask("Hello!", format="json", stream=stream) | hot))
        text = "".join(map(text_of, said))
        assert text.startswith("{")
        assert said[-1]["done_reason"] == "length" or isinstance(json.loads(text), dict)
    for wrong in ("yaml", 5, ["json"]):
        assert error(grist.post(path, ask("hi", format=wrong) | {"model": "grist"}), 400).startswith("invalid format")
    thinker = serve(FakeBackend(reply=lambda prompt: list(b"well...</think>"), chat_template=THINKING_TEMPLATE))
    answer = lines(thinker.post(path, ask("hi", format=COLOURS, think=True, stream=False)))[0]
    assert answer.get("message", answer)["thinking"] == "well..."
    assert json.loads(text_of(answer))["colour"] in ("red", "green")


@GENERATE_OR_CHAT
def test_14_only_a_thinker_can_be_told_to_think(parrots: RunningServer, path: str, ask: Any) -> None:
    """14. `think:true` on a non-thinker -> 400 `"x" does not support thinking`; false -> 200."""
    for think in (True, "high"):
        assert error(parrots.post(path, ask("hi", think=think)), 400) == '"fake" does not support thinking'
    assert lines(parrots.post(path, ask("hi", think=False)))[-1]["done_reason"] == "stop"


def test_15_a_missing_capability_is_named(parrots: RunningServer, serve: Serve, embedder: ModelServer) -> None:
    """15. Missing capability -> 400 `"x" does not support chat|generate|tools|insert`."""
    untemplated = serve(FakeBackend(chat_template=None))
    assert error(untemplated.post("/api/chat", conversation("hi")), 400) == '"fake" does not support chat'
    asked = question("hi") | {"model": "minilm"}
    assert error(embedder.post("/api/generate", asked), 400) == '"minilm" does not support generate'
    assert error(parrots.post("/api/chat", conversation("hi", tools=[TOOL])), 400) == '"fake" does not support tools'
    assert error(parrots.post("/api/generate", question("hi", suffix="}")), 400) == '"fake" does not support insert'
    able = serve(scripted(TOOL_TEMPLATE))
    assert lines(able.post("/api/chat", conversation("hi", tools=[TOOL])))[-1]["done"]
    infilling = serve(FakeBackend(infill=True))
    assert lines(infilling.post("/api/generate", question("hi", suffix="}")))[-1]["done"]


@pytest.mark.parametrize("fields", [{"template": "{{ .Prompt }}"}, {"system": "Be kind"}, {"context": [1]}])
def test_16_raw_goes_with_no_template_system_or_context(parrots: RunningServer, fields: dict[str, Any]) -> None:
    """16. Raw with template, system or context -> 400."""
    answer = error(parrots.post("/api/generate", question("hi", raw=True, **fields)), 400)
    assert answer == "raw mode does not support template, system, or context"
    assert lines(parrots.post("/api/generate", question("hi", raw=True)))[-1]["done"]


def test_17_embed_takes_nothing_and_cuts_what_is_too_long(embedder: ModelServer) -> None:
    """17. Embed: `[]` -> `embeddings:[]`. Overflow truncates by default; `truncate:false` -> 400 `the input length
    exceeds the context length`.
    """
    asked = {"model": "minilm"}
    assert embedder.post("/api/embed", {**asked, "input": []}).json()["embeddings"] == []
    for given in ("word " * 1000, ["x", "word " * 1000]):
        answer = embedder.post("/api/embed", {**asked, "input": given}).json()
        assert len(answer["embeddings"]) == (1 if isinstance(given, str) else 2)
        assert math.hypot(*answer["embeddings"][-1]) == pytest.approx(1, abs=1e-4)
        refused = embedder.post("/api/embed", {**asked, "input": given, "truncate": False})
        assert error(refused, 400) == "the input length exceeds the context length"


@pytest.mark.parametrize("top_logprobs", [-1, 21])
@GENERATE_OR_CHAT
def test_18_top_logprobs_are_0_to_20(parrots: RunningServer, path: str, ask: Any, top_logprobs: int) -> None:
    """18. top_logprobs outside 0-20 -> 400."""
    answer = error(parrots.post(path, ask("hi", logprobs=True, top_logprobs=top_logprobs)), 400)
    assert f"top_logprobs must be between 0 and 20, got {top_logprobs}" in answer
    for allowed in (0, 20):
        assert lines(parrots.post(path, ask("hi", logprobs=True, top_logprobs=allowed)))[-1]["done"]
