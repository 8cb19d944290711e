"""`/tokenize` and `/detokenize`, in vLLM's shapes."""

from typing import Any

import pytest

from support.api_server import RunningServer, Serve


def tokenize(server: RunningServer, **body: Any) -> dict[str, Any]:
    answer = server.post("/tokenize", body)
    assert answer.status_code == 200, answer.text
    parsed: dict[str, Any] = answer.json()
    return parsed


def refused(server: RunningServer, path: str, **body: Any) -> dict[str, Any]:
    answer = server.post(path, body)
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


def test_a_prompt_becomes_tokens_with_the_special_ones_around_it(server: RunningServer) -> None:
    answer = tokenize(server, model="fake", prompt="hi", return_token_strs=True)
    assert answer == {
        "count": 3,
        "max_model_len": 4096,
        "tokens": [256, 104, 105],
        "token_strs": ["<|bos|>", "h", "i"],
    }


def test_special_tokens_can_be_left_out_and_token_strs_are_null_unless_asked_for(server: RunningServer) -> None:
    answer = tokenize(server, prompt="hi", add_special_tokens=False)
    assert (answer["tokens"], answer["count"], answer["token_strs"]) == ([104, 105], 2, None)


def test_messages_are_rendered_by_the_chat_template(server: RunningServer) -> None:
    messages = [{"role": "user", "content": "hi"}]
    tokens = tokenize(server, messages=messages)["tokens"]
    assert server.post("/detokenize", {"tokens": tokens}).json() == {
        "prompt": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    }
    without = tokenize(server, messages=messages, add_generation_prompt=False)["tokens"]
    assert tokens[: len(without)] == without
    assert len(without) < len(tokens)
    assert tokenize(server, messages=messages, add_special_tokens=True)["tokens"] == [256, *tokens]


def test_a_chat_costs_as_many_prompt_tokens_as_tokenize_says(server: RunningServer) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hé"}]
    count = tokenize(server, messages=messages)["count"]
    body = {"model": "fake", "messages": messages, "max_tokens": 1}
    assert server.post("/v1/chat/completions", body).json()["usage"]["prompt_tokens"] == count


@pytest.mark.parametrize("text", ["", "hé\n\t", "\u4f60\u597d \U0001f600", "<|im_end|> inside"])
def test_round_trip_gives_the_text_back(server: RunningServer, text: str) -> None:
    tokens = tokenize(server, prompt=text, add_special_tokens=False)["tokens"]
    assert server.post("/detokenize", {"tokens": tokens}).json() == {"prompt": text}


def test_a_long_prompt_is_tokenized_too(server: RunningServer) -> None:
    assert tokenize(server, prompt="x" * 100_000, add_special_tokens=False)["count"] == 100_000


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({}, "prompt", "either prompt or messages"),
        ({"prompt": "a", "messages": []}, "prompt", "either prompt or messages"),
        ({"prompt": "a", "add_generation_prompt": False}, "add_generation_prompt", "False"),
        ({"prompt": "a", "truncate_prompt_tokens": 3}, "truncate_prompt_tokens", "3"),
        ({"prompt": 5}, "prompt", "5"),
        ({"messages": "hi"}, "messages", "'hi'"),
    ],
)
def test_what_can_not_be_is_400_and_names_the_field(
    server: RunningServer, body: dict[str, Any], param: str, said: str
) -> None:
    error = refused(server, "/tokenize", **body)
    assert error["param"] == param
    assert said in error["message"]


@pytest.mark.parametrize("token_id", [-1, 259, 2**40])
def test_a_token_outside_the_vocabulary_is_400(server: RunningServer, token_id: int) -> None:
    error = refused(server, "/detokenize", tokens=[104, token_id])
    assert error["param"] == "tokens"
    assert str(token_id) in error["message"]


def test_too_many_messages_are_400(serve: Serve) -> None:
    server = serve(max_messages=2)
    messages = [{"role": "user", "content": "a"}] * 3
    assert "3 entries, at most 2" in refused(server, "/tokenize", messages=messages)["message"]


def test_a_model_that_is_not_served_is_404(server: RunningServer) -> None:
    for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": []})):
        assert server.post(path, body | {"model": "other"}).status_code == 404
