"""`suffix` in /api/generate, by Ollama's own client: the exact prompts, what ends an answer, and what does not go with
it. (That a model must be able to, behaviour 15, is in `test_refusals`.)
"""

from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from pagemill.backends.fake import BOS, EOS, FakeBackend
from support.api_server import RunningServer, Serve, running_server
from support.ollama_requests import GREEDY, error, lines, question

PREFIX, SUFFIX, MIDDLE = 0xF8, 0xF9, 0xFA


@pytest.fixture
def prompts() -> list[tuple[int, ...]]:
    """Those that the model was given."""
    return []


@pytest.fixture
def filling(prompts: list[tuple[int, ...]]) -> Iterator[RunningServer]:
    def reply(prompt: tuple[int, ...]) -> list[int]:
        prompts.append(prompt)
        return [*b"x, y", PREFIX, *b"more", EOS]

    with running_server(FakeBackend(reply=reply, infill=True, max_model_len=64)) as running:
        yield running


def refused(server: RunningServer, **fields: Any) -> str:
    return error(server.post("/api/generate", question("a", **{"suffix": "b", **fields})), 400)


def test_the_client_gets_the_text_between(filling: RunningServer, prompts: list[tuple[int, ...]]) -> None:
    client = ollama.Client(host=filling.url, timeout=30)
    answer = client.generate("fake", "def f(", suffix="  return x", options=GREEDY)
    assert (answer.response, answer.done_reason) == ("x, y", "stop")
    assert prompts == [(BOS, PREFIX, *b"def f(", SUFFIX, *b"  return x", MIDDLE)]
    assert (answer.prompt_eval_count, answer.eval_count) == (len(prompts[0]), 5)
    assert answer.context is None, "it is no conversation that could go on"
    parts = list(client.generate("fake", "def f(", suffix="  return x", options=GREEDY, stream=True))
    assert "".join(part.response or "" for part in parts) == "x, y"
    client.close()  # type: ignore[no-untyped-call]  # the library lacks the annotation


def test_show_says_so(filling: RunningServer) -> None:
    assert filling.post("/api/show", {"model": "fake"}).json()["capabilities"] == ["completion", "insert"]


def test_a_gap_at_the_beginning_is_no_request_to_load(filling: RunningServer, prompts: list[tuple[int, ...]]) -> None:
    answer = filling.post("/api/generate", question("", suffix="b", stream=False)).json()
    assert (answer["response"], answer["done_reason"]) == ("x, y", "stop")
    assert prompts == [(BOS, PREFIX, SUFFIX, *b"b", MIDDLE)]
    assert filling.post("/api/generate", question("", suffix="", stream=False)).json()["done_reason"] == "load"


def test_the_token_that_ends_an_answer_has_no_logprob(filling: RunningServer) -> None:
    answer = filling.post("/api/generate", question("a", suffix="b", stream=False, logprobs=True)).json()
    assert [entry["token"] for entry in answer["logprobs"]] == list("x, y")


def test_a_long_prompt_is_refused_unless_it_is_to_be_truncated(
    filling: RunningServer, prompts: list[tuple[int, ...]]
) -> None:
    body = question("." + "p" * 80, suffix="s" * 80 + ".", options={**GREEDY, "num_predict": 20})
    assert "the prompt has 166 tokens, and the context holds 64" in error(filling.post("/api/generate", body), 400)
    lines(filling.post("/api/generate", {**body, "truncate": True}))
    assert prompts == [(BOS, PREFIX, *b"p" * 30, SUFFIX, *b"s" * 10, MIDDLE)]


def test_a_format_holds_the_text_between(filling: RunningServer) -> None:
    answer = filling.post("/api/generate", question("a", suffix="b", stream=False, format={"const": 5})).json()
    assert answer["response"] == "5"


@pytest.mark.parametrize("fields", [{"raw": True}, {"system": "Be kind"}, {"context": [1]}, {"think": True}])
def test_what_is_about_the_template_makes_no_sense_with_a_suffix(
    filling: RunningServer, fields: dict[str, Any]
) -> None:
    (name,) = fields
    assert refused(filling, **fields) == f"{name} is not supported with a suffix"


def test_a_model_without_a_template_can_fill_in(serve: Serve) -> None:
    server = serve(FakeBackend(chat_template=None, infill=True))
    assert server.post("/api/show", {"model": "fake"}).json()["capabilities"] == ["completion", "insert"]
    assert lines(server.post("/api/generate", question("a", suffix="b")))[-1]["done_reason"] == "stop"
