"""Every sampling parameter that vLLM has does something here, and what its name says, on a real model.
tests/conformance holds the exact meaning of those that change a distribution.
"""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pagemill.backends.fake import FakeBackend
from support.api_server import Serve, wait_until
from support.model_server import Asked, ModelServer
from support.openai_requests import HELLO, refusal

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
PROMPT = "The capital of"
HOT = {"temperature": 1.5, "seed": 5, "max_tokens": 40, "ignore_eos": True}


def complete(server: Asked, **fields: Any) -> dict[str, Any]:
    response = server.post(TEXT, {"prompt": PROMPT, "max_tokens": 24, "return_token_ids": True, **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def said(server: Asked, **fields: Any) -> dict[str, Any]:
    choice: dict[str, Any] = complete(server, **fields)["choices"][0]
    return choice


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"temperature": 2.0},
        {"top_p": 0.01},
        {"top_k": 1},
        {"min_p": 1.0},
        {"seed": 6},
        {"presence_penalty": 2.0},
        {"frequency_penalty": 2.0},
        {"repetition_penalty": 1.8},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_it_changes_what_is_drawn(grist: ModelServer, fields: dict[str, Any]) -> None:
    plain, again, other = (said(grist, **{**HOT, **more})["token_ids"] for more in ({}, {}, fields))
    assert plain == again
    assert other != plain


@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_0_and_minus_1_are_off(grist: ModelServer, top_k: int) -> None:
    assert said(grist, **HOT, top_k=top_k)["token_ids"] == said(grist, **HOT)["token_ids"]


def test_only_what_is_allowed_and_biased_is_said(grist: ModelServer) -> None:
    allowed = said(grist, **HOT)["token_ids"][:3]
    assert set(said(grist, **HOT, allowed_token_ids=allowed)["token_ids"]) <= set(allowed)
    assert set(said(grist, temperature=0, logit_bias={str(allowed[0]): 100}, ignore_eos=True)["token_ids"]) == {
        allowed[0]
    }


@pytest.mark.parametrize("stream", [True, False])
def test_bad_words_are_not_said(grist: ModelServer, stream: bool) -> None:
    asked = {"messages": [{"role": "user", "content": "What is the capital of Norway?"}], "temperature": 0}
    answer = grist.post(CHAT, asked).json()["choices"][0]["message"]["content"]
    assert answer == "The capital of Norway is Oslo."
    response = grist.post(CHAT, {**asked, "bad_words": ["Oslo", "capital of"], "max_tokens": 40, "stream": stream})
    assert response.status_code == 200
    assert "Oslo" not in response.text
    assert "capital of" not in response.text


def test_bad_words_hold_in_a_format(serve: Serve) -> None:
    server = serve(FakeBackend(reply=lambda prompt: None))
    regex = {"structured_outputs": {"regex": "[ab]{12}"}}
    plain, without = (
        [choice["text"] for choice in complete(server, **regex, n=8, bad_words=words)["choices"]]
        for words in ([], ["aa", "bbb"])
    )
    assert all(re.fullmatch("[ab]{12}", text) for text in plain + without)
    assert any("aa" in text for text in plain)
    assert not any("aa" in text or "bbb" in text for text in without)


def test_the_length_is_what_was_asked_for(grist: ModelServer) -> None:
    choice = said(grist, temperature=0, max_tokens=3, ignore_eos=True)
    assert (len(choice["token_ids"]), choice["finish_reason"]) == (3, "length")
    short = said(grist, temperature=0, max_tokens=100)
    assert short["finish_reason"] == "stop"
    assert len(said(grist, temperature=0, max_tokens=100, ignore_eos=True)["token_ids"]) == 100
    longer = said(grist, temperature=0, max_tokens=100, min_tokens=len(short["token_ids"]) + 5)
    assert len(longer["token_ids"]) >= len(short["token_ids"]) + 5


def test_stops_end_the_text(grist: ModelServer) -> None:
    whole = said(grist, temperature=0, max_tokens=12, ignore_eos=True)
    text = whole["text"]
    stop = text[4:6]
    cut = said(grist, temperature=0, max_tokens=12, ignore_eos=True, stop=stop)
    assert (cut["text"], cut["finish_reason"], cut["stop_reason"]) == (text[: text.index(stop)], "stop", stop)
    kept = said(grist, temperature=0, max_tokens=12, ignore_eos=True, stop=stop, include_stop_str_in_output=True)
    assert kept["text"] == text[: text.index(stop) + 2]
    token_id = whole["token_ids"][2]
    ended = said(grist, temperature=0, max_tokens=12, ignore_eos=True, stop_token_ids=[token_id])
    assert ended["stop_reason"] == token_id
    assert ended["token_ids"] == whole["token_ids"][: whole["token_ids"].index(token_id) + 1]


def test_special_tokens_are_shown_if_wanted(grist: ModelServer) -> None:
    hidden, shown = (
        said(grist, temperature=0, max_tokens=100, ignore_eos=True, skip_special_tokens=skip)["text"]
        for skip in (True, False)
    )
    assert "<|" not in hidden
    assert re.search(r"<\|\w+\|>", shown)


def test_a_prompt_is_cut_to_its_last_tokens(grist: ModelServer) -> None:
    answer = complete(grist, truncate_prompt_tokens=2, max_tokens=1)
    whole = complete(grist, max_tokens=1)
    assert answer["usage"]["prompt_tokens"] == 2
    assert answer["choices"][0]["prompt_token_ids"] == whole["choices"][0]["prompt_token_ids"][-2:]


def test_an_echo_is_the_prompt(grist: ModelServer) -> None:
    plain, echoed = (said(grist, temperature=0, echo=echo)["text"] for echo in (False, True))
    assert echoed == PROMPT + plain


def test_a_lower_priority_number_goes_first(serve: Serve) -> None:
    server = serve(FakeBackend(max_num_seqs=1, step_delay_s=0.005))
    ended: list[int] = []

    def ask(priority: int) -> None:
        body = {"prompt": "x", "max_tokens": 30, "priority": priority, "ignore_eos": True}
        assert server.post(TEXT, body).status_code == 200
        ended.append(priority)

    def arrive(threads: ThreadPoolExecutor, priority: int) -> None:
        before = server.engine.num_unfinished()
        threads.submit(ask, priority)
        wait_until(lambda: server.engine.num_unfinished() > before)

    with ThreadPoolExecutor() as threads:
        for priority in (0, 3, 2, 1):
            arrive(threads, priority)
    assert ended == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("field", "value", "pattern"),
    [
        ("guided_choice", ["yes", "no"], r"yes|no"),
        ("guided_regex", r"[ab]{3}", r"[ab]{3}"),
        ("guided_grammar", 'root ::= "a" [0-9]{2}', r"a\d\d"),
        ("guided_json", {"type": "integer", "minimum": 10, "maximum": 99}, r"\d\d"),
    ],
)
def test_older_names_of_formats_mean_the_newer(grist: ModelServer, field: str, value: Any, pattern: str) -> None:
    kind = field.removeprefix("guided_")
    for fields in ({field: value}, {"structured_outputs": {kind: value}}):
        assert re.fullmatch(pattern, said(grist, **HOT, **fields)["text"])


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("guided_json_object", True, "structured_outputs.json_object"),
        ("guided_whitespace_pattern", " ", "structured_outputs.disable_any_whitespace"),
        ("guided_decoding_backend", "outlines", "llguidance"),
    ],
)
def test_what_has_no_newer_name_is_a_400_that_says_what_to_do(
    grist: ModelServer, field: str, value: Any, says: str
) -> None:
    error = refusal(grist.post(CHAT, {"messages": HELLO, field: value}))
    assert (error["param"], error["code"]) == (field, "unsupported_parameter")
    assert says in error["message"]


def test_structured_json_objects_are_objects(grist: ModelServer) -> None:
    answer = complete(grist, structured_outputs={"json_object": True}, n=16, seed=1, max_tokens=200, temperature=1.2)
    ended = [choice["text"] for choice in answer["choices"] if choice["finish_reason"] == "stop"]
    assert ended
    assert all(isinstance(json.loads(text), dict) for text in ended)
