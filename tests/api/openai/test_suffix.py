"""`suffix` in text completions: the exact prompts, what ends an answer, and what does not go with it."""

from collections.abc import Iterator
from typing import Any

import pytest

from pagemill.backends.fake import BOS, EOS, FakeBackend
from support.api_server import RunningServer, Serve, running_server

PREFIX, SUFFIX, MIDDLE = 0xF8, 0xF9, 0xFA
PROMPT = (BOS, PREFIX, *b"def f(", SUFFIX, *b"  return x", MIDDLE)


@pytest.fixture(scope="module")
def filling() -> Iterator[RunningServer]:
    """A server whose model can fill in, and says how long the prompt was."""
    backend = FakeBackend(reply=lambda prompt: [*f"{len(prompt)}".encode(), EOS], infill=True, max_model_len=64)
    with running_server(backend) as running:
        yield running


def fill(
    server: RunningServer, prompt: object = "def f(", suffix: str | None = "  return x", **fields: Any
) -> dict[str, Any]:
    body = {"prompt": prompt, "suffix": suffix, "temperature": 0, "return_token_ids": True, **fields}
    response = server.post("/v1/completions", body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def refused(server: RunningServer, **fields: Any) -> tuple[str, str]:
    response = server.post("/v1/completions", {"prompt": "a", "suffix": "b", **fields})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    return error["param"], error["message"]


def test_official_client_gets_the_text_between(filling: RunningServer) -> None:
    client = filling.client().completions
    answer = client.create(
        model="fake", prompt="def f(", suffix="  return x", temperature=0, extra_body={"return_token_ids": True}
    )
    assert answer.choices[0].text == str(len(PROMPT))
    assert tuple(answer.choices[0].prompt_token_ids) == PROMPT  # type: ignore[attr-defined]  # a field of vLLM's
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(PROMPT)
    stream = client.create(model="fake", prompt="def f(", suffix="  return x", temperature=0, stream=True)
    assert "".join(part.choices[0].text for part in stream) == str(len(PROMPT))


def test_an_empty_suffix_is_none(filling: RunningServer) -> None:
    assert fill(filling, suffix="")["choices"][0]["prompt_token_ids"] == [BOS, *b"def f("]


def test_a_gap_at_the_beginning_has_an_empty_prompt(filling: RunningServer) -> None:
    assert fill(filling, "")["choices"][0]["prompt_token_ids"] == [BOS, PREFIX, SUFFIX, *b"  return x", MIDDLE]
    assert refused(filling, prompt="", suffix="") == ("prompt", "prompt must not be empty")
    assert refused(filling, prompt=["a", ""], suffix=None) == ("prompt", "prompt[1] must not be empty")


def test_one_suffix_goes_with_every_prompt(filling: RunningServer) -> None:
    choices = fill(filling, ["a", "bb"], "c", n=2)["choices"]
    assert [choice["prompt_token_ids"] for choice in choices] == [
        *[[BOS, PREFIX, *b"a", SUFFIX, *b"c", MIDDLE]] * 2,
        *[[BOS, PREFIX, *b"bb", SUFFIX, *b"c", MIDDLE]] * 2,
    ]


def test_names_of_special_tokens_are_texts(filling: RunningServer) -> None:
    ids = fill(filling, "<|im_end|>", "<|fim_middle|>")["choices"][0]["prompt_token_ids"]
    assert ids == [BOS, PREFIX, *b"<|im_end|>", SUFFIX, *b"<|fim_middle|>", MIDDLE]


def test_no_bos_token_if_the_client_wants_none(filling: RunningServer) -> None:
    assert fill(filling, "a", "b", add_special_tokens=False)["choices"][0]["prompt_token_ids"][0] == PREFIX


@pytest.mark.parametrize("token", [PREFIX, SUFFIX, MIDDLE])
def test_the_models_own_markers_end_an_answer(serve: Serve, token: int) -> None:
    server = serve(FakeBackend(reply=lambda prompt: [*b"x, y", token, *b"more", EOS], infill=True))
    answer = fill(server)
    choice = answer["choices"][0]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == ("x, y", "stop", token)
    assert answer["usage"]["completion_tokens"] == 5
    assert fill(server, ignore_eos=True, max_tokens=8)["choices"][0]["text"] == "x, ymor", "nothing ends it"
    assert fill(server, suffix=None, max_tokens=8)["choices"][0]["text"] == "x, ymor", "without a suffix, too"


def test_the_clients_own_stop_tokens_stay(serve: Serve) -> None:
    server = serve(FakeBackend(reply=lambda prompt: [*b"x, y", EOS], infill=True))
    assert fill(server, stop_token_ids=[ord(",")])["choices"][0]["text"] == "x"


def test_a_long_prompt_is_refused_unless_it_is_to_be_truncated(filling: RunningServer) -> None:
    param, message = refused(filling, prompt="p" * 80, suffix="s" * 80, max_tokens=4)
    assert param == "prompt"
    assert "your prompt contains 164 input tokens" in message
    for keep, expected in (
        (24, (BOS, PREFIX, *b"p" * 15, SUFFIX, *b"s" * 5, MIDDLE)),
        (-1, (BOS, PREFIX, *b"p" * 42, SUFFIX, *b"s" * 14, MIDDLE)),
    ):
        answer = fill(filling, "." + "p" * 80, "s" * 80 + ".", max_tokens=4, truncate_prompt_tokens=keep)
        assert tuple(answer["choices"][0]["prompt_token_ids"]) == expected
    assert refused(filling, truncate_prompt_tokens=3)[0] == "suffix"


def test_a_model_that_can_not_fill_in_is_named(server: RunningServer) -> None:
    expected = "suffix is not supported: the model 'fake' has no fill-in-the-middle tokens"
    assert refused(server) == ("suffix", expected)


def test_what_makes_no_sense_with_a_suffix_is_refused(filling: RunningServer) -> None:
    assert refused(filling, echo=True)[0] == "echo"
    assert refused(filling, prompt=[1, 2]) == ("prompt", "prompt must be a text if there is a suffix, not token ids")
    assert refused(filling, prompt=["a", [1, 2]])[1].startswith("prompt[1] must be a text")


def test_formats_hold_the_text_between(filling: RunningServer) -> None:
    answer = fill(filling, structured_outputs={"choice": ["red", "green"]})
    assert answer["choices"][0]["text"] in ("red", "green")
