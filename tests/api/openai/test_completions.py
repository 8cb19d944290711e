"""Text completions: prompts in all their forms, echo, and the official client."""

from typing import Any

import httpx
import pytest

from pagemill.backends.fake import BOS, EOS, FakeBackend
from pagemill.engine.step import StepPlan
from support.api_server import RunningServer, Serve, wait_until
from support.openai_requests import chunks, joined

TEXT = "The quick brown fox jumps over the lazy dog."


def complete(server: RunningServer, prompt: object = "hi", **fields: object) -> httpx.Response:
    return server.post("/v1/completions", {"prompt": prompt, "temperature": 0, **fields})


def streamed(server: RunningServer, prompt: object = "hi", **fields: object) -> list[dict[str, Any]]:
    return chunks(complete(server, prompt, stream=True, **fields))


def counting_backend() -> FakeBackend:
    """Answers with its own prompt in brackets."""
    return FakeBackend(reply=lambda prompt: [*b"<", *(token for token in prompt if token < 256), *b">", EOS])


def test_official_client_gets_a_whole_answer(server: RunningServer) -> None:
    answer = server.client().completions.create(model="fake", prompt="hi", temperature=0, max_tokens=100)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (TEXT, "stop")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3
    assert answer.usage.completion_tokens == len(TEXT) + 1


def test_official_client_streams(server: RunningServer) -> None:
    stream = server.client().completions.create(model="fake", prompt="hi", temperature=0, max_tokens=100, stream=True)
    parts = list(stream)
    assert "".join(part.choices[0].text for part in parts) == TEXT
    assert [part.choices[0].finish_reason for part in parts].count("stop") == 1


async def test_async_client_streams(server: RunningServer) -> None:
    async with server.async_client() as client:
        stream = await client.completions.create(model="fake", prompt="hi", temperature=0, max_tokens=100, stream=True)
        assert "".join([part.choices[0].text async for part in stream]) == TEXT


def test_max_tokens_defaults_to_16(server: RunningServer) -> None:
    answer = complete(server).json()
    assert answer["usage"]["completion_tokens"] == 16
    assert answer["choices"][0]["finish_reason"] == "length"


def test_add_special_tokens_false_leaves_bos_out(server: RunningServer) -> None:
    assert complete(server, add_special_tokens=False).json()["usage"]["prompt_tokens"] == 2


def test_streamed_batch_equals_the_unstreamed_one(serve: Serve) -> None:
    server = serve(counting_backend())
    parts = streamed(server, ["a", "bb"], n=2, max_tokens=20, stream_options={"include_usage": True})
    assert [joined(parts, index) for index in range(4)] == ["<a>", "<a>", "<bb>", "<bb>"]
    finishes = [choice["index"] for part in parts for choice in part["choices"] if choice["finish_reason"]]
    assert sorted(finishes) == [0, 1, 2, 3]
    assert parts[-1]["usage"]["completion_tokens"] == 2 * (4 + 5)


def test_batched_prompts_run_at_once(serve: Serve) -> None:
    server = serve(FakeBackend(step_delay_s=0.005))
    parts = streamed(server, ["a", "b", "c"], max_tokens=20)
    order = [part["choices"][0]["index"] for part in parts]
    first_end = next(i for i, part in enumerate(parts) if part["choices"][0]["finish_reason"])
    assert set(order[:first_end]) == {0, 1, 2}


def test_echo_puts_the_prompt_before_the_text(server: RunningServer) -> None:
    assert complete(server, "hi ", echo=True, max_tokens=3).json()["choices"][0]["text"] == "hi The"
    assert joined(streamed(server, "hi ", echo=True, max_tokens=3)) == "hi The"


def test_echo_of_token_ids_is_their_text(server: RunningServer) -> None:
    assert complete(server, list(b"hey "), echo=True, max_tokens=3).json()["choices"][0]["text"] == "hey The"


def test_echo_with_max_tokens_0_is_the_prompt_alone(server: RunningServer) -> None:
    answer = complete(server, "hi", echo=True, max_tokens=0, logprobs=1).json()
    choice = answer["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("hi", "length")
    assert choice["logprobs"]["tokens"] == ["<|bos|>", "h", "i"]
    assert answer["usage"]["completion_tokens"] == 0


def test_truncate_prompt_tokens_keeps_the_last_ones(serve: Serve) -> None:
    server = serve(counting_backend())
    answer = complete(server, "abcdef", truncate_prompt_tokens=2, echo=True).json()
    assert answer["choices"][0]["text"] == "ef<ef>"
    assert answer["usage"]["prompt_tokens"] == 2


def test_truncate_prompt_tokens_minus_one_makes_it_fit(serve: Serve) -> None:
    server = serve(FakeBackend(max_model_len=32))
    answer = complete(server, "x" * 100, truncate_prompt_tokens=-1, max_tokens=8).json()
    assert answer["usage"]["prompt_tokens"] == 24
    assert answer["usage"]["completion_tokens"] == 8


def test_prompt_logprobs_are_per_choice(server: RunningServer) -> None:
    choice = complete(server, "hi", prompt_logprobs=1, max_tokens=1).json()["choices"][0]
    assert choice["prompt_logprobs"][0] is None
    assert set(choice["prompt_logprobs"][1]) >= {str(ord("h"))}


def test_return_token_ids_shows_both_sides(server: RunningServer) -> None:
    choice = complete(server, "hi", return_token_ids=True, max_tokens=3).json()["choices"][0]
    assert (choice["prompt_token_ids"], choice["token_ids"]) == ([BOS, *b"hi"], list(b"The"))
    parts = streamed(server, "hi", return_token_ids=True, max_tokens=3)
    assert parts[0]["choices"][0]["prompt_token_ids"] == [BOS, *b"hi"]
    assert [token for part in parts for token in part["choices"][0].get("token_ids", [])] == list(b"The")


def test_over_long_prompt_is_a_400_that_says_both_lengths(serve: Serve) -> None:
    response = complete(serve(FakeBackend(max_model_len=32)), list(b"x" * 40))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["message"].startswith(
        "This model's maximum context length is 32 tokens. However, your prompt contains 40 input tokens"
    )


def test_too_large_max_tokens_is_a_400_that_says_all_lengths(serve: Serve) -> None:
    server = serve(FakeBackend(max_model_len=32))
    error = complete(server, list(b"x" * 20), max_tokens=13).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "maximum context length is 32 tokens" in error["message"]
    assert "13 output tokens" in error["message"]
    assert "20 input tokens" in error["message"]
    assert complete(server, list(b"x" * 20), max_tokens=12).status_code == 200


def test_over_long_prompt_in_a_batch_refuses_all_of_it(serve: Serve) -> None:
    server = serve(FakeBackend(max_model_len=32))
    assert complete(server, ["a", "x" * 40, "b"], max_tokens=1).status_code == 400
    assert server.engine.num_unfinished() == 0


def test_out_of_vocabulary_prompt_token_is_a_400(server: RunningServer) -> None:
    response = complete(server, [1, 2, 100_000])
    assert response.status_code == 400
    assert "100000" in response.json()["error"]["message"]


def test_out_of_vocabulary_token_in_a_batch_leaves_nothing_running(server: RunningServer) -> None:
    assert complete(server, [[1], [2], [100_000]], stream=True).status_code == 400
    assert server.engine.num_unfinished() == 0


def test_prompt_too_long_for_the_event_loop_is_tokenized_all_the_same(serve: Serve) -> None:
    server = serve(FakeBackend(max_model_len=20_000))
    assert complete(server, "x" * 10_000, max_tokens=1).json()["usage"]["prompt_tokens"] == 10_001


@pytest.mark.parametrize("stream", [True, False])
def test_failure_of_one_prompt_ends_the_whole_batch(serve: Serve, stream: bool) -> None:
    def fail(plan: StepPlan) -> str | None:
        return "the device is gone" if plan.step_id > 8 and plan.chunks else None

    server = serve(FakeBackend(fail_on=fail))
    response = complete(server, ["a", "b", "c"], n=2, max_tokens=100, stream=stream)
    assert response.status_code == (200 if stream else 500)
    assert "the device is gone" in response.text
    assert "[DONE]" not in response.text
    wait_until(lambda: server.engine.num_unfinished() == 0)
