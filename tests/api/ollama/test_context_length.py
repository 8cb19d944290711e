"""Prompts that do not fit: refused with both lengths, or shortened if the client asks for it."""

from typing import Any

import pytest

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, Serve
from support.ollama_requests import GREEDY, conversation, error, question

CONTEXT = 128


def limited(**options: Any) -> dict[str, Any]:
    return {**GREEDY, "num_ctx": CONTEXT, **options}


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
@pytest.mark.parametrize("truncate", [None, False])
def test_a_prompt_beyond_the_context_is_400_with_both_lengths(
    parrots: RunningServer, path: str, truncate: bool | None
) -> None:
    ask = question if path == "/api/generate" else conversation
    fits = parrots.post(path, ask("x" * 50, options=limited(), stream=False)).json()
    overhead = fits["prompt_eval_count"] - 50
    message = error(parrots.post(path, ask("x" * 200, options=limited(), truncate=truncate)), 400)
    assert "the input length exceeds the context length" in message
    assert f"{200 + overhead} tokens" in message
    assert f"holds {CONTEXT}" in message


def test_a_prompt_that_just_fits_gets_one_token(parrots: RunningServer) -> None:
    overhead = parrots.post("/api/chat", conversation("x", stream=False)).json()["prompt_eval_count"] - 1
    longest = CONTEXT - overhead - 1
    answer = parrots.post("/api/chat", conversation("x" * longest, options=limited(), stream=False)).json()
    assert (answer["eval_count"], answer["done_reason"]) == (1, "length")
    assert "context" in error(parrots.post("/api/chat", conversation("x" * (longest + 1), options=limited())), 400)


def test_prompt_and_answer_stay_within_num_ctx(parrots: RunningServer) -> None:
    answer = parrots.post("/api/chat", conversation("x" * 80, options=limited(), stream=False)).json()
    assert answer["done_reason"] == "length"
    assert answer["prompt_eval_count"] + answer["eval_count"] == CONTEXT


@pytest.mark.parametrize("num_predict", [-1, -2])
def test_an_answer_without_end_fills_the_context(serve: Serve, num_predict: int) -> None:
    server = serve(FakeBackend(reply=lambda prompt: [97] * 1000, max_model_len=200))
    body = conversation("talk", options={**GREEDY, "num_predict": num_predict}, stream=False)
    answer = server.post("/api/chat", body).json()
    assert answer["done_reason"] == "length"
    assert answer["prompt_eval_count"] + answer["eval_count"] == 200


def test_num_predict_beyond_the_context_is_clipped(serve: Serve) -> None:
    server = serve(FakeBackend(reply=lambda prompt: [97] * 1000, max_model_len=200))
    body = question("talk", options={**GREEDY, "num_predict": 5000}, stream=False)
    answer = server.post("/api/generate", body).json()
    assert answer["prompt_eval_count"] + answer["eval_count"] == 200


def test_a_num_ctx_beyond_the_loaded_context_is_served_with_the_loaded_one(serve: Serve) -> None:
    server = serve(FakeBackend(max_model_len=200))
    options = {**GREEDY, "num_ctx": 8192}
    assert server.post("/api/chat", conversation("hi", options=options)).status_code == 200
    assert "holds 200" in error(server.post("/api/chat", conversation("x" * 300, options=options)), 400)


def test_truncate_drops_the_oldest_turns_and_keeps_the_system_message(parrots: RunningServer) -> None:
    messages = [{"role": "system", "content": "S"}]
    for turn in range(12):
        messages += [{"role": "user", "content": f"q{turn}"}, {"role": "assistant", "content": f"a{turn}"}]
    messages.append({"role": "user", "content": "last"})
    options = limited(num_ctx=256, num_predict=60)
    assert "context" in error(parrots.post("/api/chat", conversation("", messages=messages, options=options)), 400)
    body = conversation("", messages=messages, options=options, truncate=True, stream=False)
    answer = parrots.post("/api/chat", body).json()
    text = answer["message"]["content"]
    assert text.startswith("{S}q")
    assert text.endswith("|q10|q11|last")
    assert "q0|" not in text
    assert answer["done_reason"] == "stop", "there was room for the answer"
    dropped = int(text.removeprefix("{S}q").split("|")[0])
    one_more = [messages[0], *messages[2 * dropped - 1 :]]
    whole = parrots.post("/api/chat", conversation("", messages=one_more, stream=False)).json()
    assert whole["prompt_eval_count"] > 256 - 60, "no more was dropped than needed"


def test_truncate_changes_nothing_that_fits(parrots: RunningServer) -> None:
    whole, asked = (
        parrots.post(
            "/api/chat", conversation("a", "b", "c", options=limited(), truncate=truncate, stream=False)
        ).json()
        for truncate in (False, True)
    )
    assert whole["message"] == asked["message"]
    assert whole["prompt_eval_count"] == asked["prompt_eval_count"]


def test_a_last_message_that_does_not_fit_alone_is_400_even_with_truncate(parrots: RunningServer) -> None:
    body = conversation("a", "b", "x" * 300, options=limited(), truncate=True)
    assert "the input length exceeds the context length" in error(parrots.post("/api/chat", body), 400)


def test_truncate_of_a_generate_prompt_keeps_its_end_and_num_keep_tokens(parrots: RunningServer) -> None:
    prompt = "KEEP" + "x" * 300 + "<|im_start|>user\nend<|im_end|>\n<|im_start|>assistant\n"
    body = question(prompt, raw=True, truncate=True, stream=False, options=limited(num_keep=5, num_predict=10))
    answer = parrots.post("/api/generate", body).json()
    assert answer["response"] == "end"
    assert answer["prompt_eval_count"] == CONTEXT - 10


def test_a_context_that_outgrew_the_model_can_be_truncated(parrots: RunningServer) -> None:
    body = question("now", context=[97] * 500, options=limited(num_predict=20), stream=False)
    assert "context" in error(parrots.post("/api/generate", body), 400)
    assert parrots.post("/api/generate", {**body, "truncate": True}).json()["response"] == "now"
