"""Chat completions, unstreamed, through the official client."""

import time

import httpx
import openai
import pytest

from pagemill.backends.fake import EOS, FakeBackend
from support.api_server import RunningServer, Serve

TEXT = "The quick brown fox jumps over the lazy dog."
HELLO = [{"role": "user", "content": "hi"}]


def chat(server: RunningServer, **fields: object) -> httpx.Response:
    return server.post("/v1/chat/completions", {"messages": HELLO, "temperature": 0, **fields})


def prompt_echo_backend() -> FakeBackend:
    """Answers with the prompt itself, special tokens left out."""
    return FakeBackend(reply=lambda prompt: [*(token for token in prompt if token < 256), EOS])


def test_official_client_gets_a_whole_answer(server: RunningServer) -> None:
    answer = server.client().chat.completions.create(
        model="fake", messages=[{"role": "user", "content": "hi"}], temperature=0
    )
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "fake"
    assert answer.system_fingerprint is not None
    assert answer.system_fingerprint.startswith("fp_")
    assert abs(answer.created - time.time()) < 60
    assert len(answer.choices) == 1
    choice = answer.choices[0]
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    assert (choice.message.role, choice.message.content) == ("assistant", TEXT)


async def test_async_client_gets_the_same(server: RunningServer) -> None:
    async with server.async_client() as client:
        answer = await client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "hi"}], temperature=0
        )
    assert answer.choices[0].message.content == TEXT


def test_usage_is_exact(server: RunningServer) -> None:
    usage = chat(server, max_tokens=7, return_token_ids=True).json()["usage"]
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    num_prompt_tokens = len(server.backend.tokenizer.encode(prompt, add_special=False, parse_special=True))
    assert usage["prompt_tokens"] == num_prompt_tokens
    assert usage["completion_tokens"] == 7
    assert usage["total_tokens"] == num_prompt_tokens + 7


def test_cached_prompt_tokens_are_reported(serve: Serve) -> None:
    server = serve()
    long = [{"role": "user", "content": "x" * 100}]
    first, second = (
        chat(server, messages=long).json()["usage"]["prompt_tokens_details"]["cached_tokens"] for _ in range(2)
    )
    assert first == 0
    assert 100 <= second < 121


def test_max_tokens_ends_with_length(server: RunningServer) -> None:
    choice = chat(server, max_tokens=3).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("The", "length")


def test_max_completion_tokens_is_the_same_limit(server: RunningServer) -> None:
    assert chat(server, max_completion_tokens=3).json()["choices"][0]["message"]["content"] == "The"
    assert chat(server, max_completion_tokens=3, max_tokens=3).json()["choices"][0]["message"]["content"] == "The"


def test_max_tokens_and_max_completion_tokens_must_agree(server: RunningServer) -> None:
    response = chat(server, max_completion_tokens=3, max_tokens=4)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "max_completion_tokens"


def test_stop_string_ends_the_text_before_it_and_is_named(server: RunningServer) -> None:
    choice = chat(server, stop="brown").json()["choices"][0]
    assert choice["message"]["content"] == "The quick "
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "brown")


def test_first_of_several_stop_strings_wins(server: RunningServer) -> None:
    choice = chat(server, stop=["lazy", "fox"]).json()["choices"][0]
    assert choice["message"]["content"] == "The quick brown "
    assert choice["stop_reason"] == "fox"


def test_include_stop_str_in_output_keeps_it(server: RunningServer) -> None:
    choice = chat(server, stop=["fox"], include_stop_str_in_output=True).json()["choices"][0]
    assert choice["message"]["content"] == "The quick brown fox"


def test_stop_token_id_ends_the_text_and_is_named(server: RunningServer) -> None:
    choice = chat(server, stop_token_ids=[ord("k")]).json()["choices"][0]
    assert choice["message"]["content"] == "The quic"
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", ord("k"))


def test_ignore_eos_goes_on_to_the_limit(server: RunningServer) -> None:
    answer = chat(server, ignore_eos=True, max_tokens=60).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 60


def test_min_tokens_puts_off_the_stop(server: RunningServer) -> None:
    choice = chat(server, stop="brown", min_tokens=20).json()["choices"][0]
    assert choice["message"]["content"] == TEXT


def test_skip_special_tokens_false_shows_them(serve: Serve) -> None:
    server = serve(FakeBackend(reply=lambda prompt: [ord("a"), 258, ord("b"), EOS]))
    assert chat(server).json()["choices"][0]["message"]["content"] == "ab"
    shown = chat(server, skip_special_tokens=False).json()["choices"][0]["message"]["content"]
    assert shown.startswith("a<|im_start|>b")


def test_usage_counts_the_prompt_of_n_choices_once(server: RunningServer) -> None:
    one = chat(server, max_tokens=5).json()["usage"]
    three = chat(server, max_tokens=5, n=3).json()["usage"]
    assert three["prompt_tokens"] == one["prompt_tokens"]
    assert three["completion_tokens"] == 15
    assert three["total_tokens"] == three["prompt_tokens"] + 15


def test_temperature_defaults_to_one(server: RunningServer) -> None:
    def content(**fields: object) -> str:
        response = server.post("/v1/chat/completions", {"messages": HELLO, "seed": 3, **fields})
        text = response.json()["choices"][0]["message"]["content"]
        assert isinstance(text, str)
        return text

    assert content() == content(temperature=1.0)
    assert content() != content(temperature=0)


def test_only_allowed_tokens_are_said(server: RunningServer) -> None:
    answer = chat(server, allowed_token_ids=[ord("Z")], max_tokens=3).json()
    assert answer["choices"][0]["message"]["content"] == "ZZZ"


def test_logit_bias_moves_the_choice(server: RunningServer) -> None:
    assert (
        chat(server, logit_bias={str(ord("Z")): 100}, max_tokens=2).json()["choices"][0]["message"]["content"] == "ZZ"
    )


def test_extra_message_fields_reach_the_template(serve: Serve) -> None:
    template = (
        "{% for m in messages %}{{ m.role }}/{{ m.name }}:{{ m.content }}"
        "{% for call in m.tool_calls or [] %}[{{ call.function.name }} {{ call.function.arguments.city }}]{% endfor %}"
        "{{ m.tool_call_id }};{% endfor %}"
    )
    backend = FakeBackend(reply=lambda prompt: [*prompt, EOS], chat_template=template)
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        {"role": "user", "content": "q", "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "reasoning": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "cold"},
    ]
    content = chat(serve(backend), messages=messages).json()["choices"][0]["message"]["content"]
    assert content == "user/ann:q;assistant/:[weather Oslo];tool/:coldc1;"


def test_add_generation_prompt_false_leaves_the_turn_to_the_model(serve: Serve) -> None:
    server = serve(prompt_echo_backend())
    assert chat(server).json()["choices"][0]["message"]["content"].endswith("assistant\n")
    closed = chat(server, add_generation_prompt=False).json()["choices"][0]["message"]["content"]
    assert "assistant" not in closed


def test_continue_final_message_leaves_the_last_message_open(serve: Serve) -> None:
    server = serve(prompt_echo_backend())
    messages = [*HELLO, {"role": "assistant", "content": "It is "}]
    answer = chat(server, messages=messages, continue_final_message=True).json()
    assert answer["choices"][0]["message"]["content"].endswith("assistant\nIt is ")


def test_chat_template_kwargs_reach_the_template(serve: Serve) -> None:
    backend = FakeBackend(reply=lambda prompt: [*prompt, EOS], chat_template="{{ 'on' if enable_thinking else 'off' }}")
    server = serve(backend)
    content = chat(server, chat_template_kwargs={"enable_thinking": True}).json()["choices"][0]["message"]["content"]
    assert content == "on"


def test_add_special_tokens_puts_bos_before_the_template(server: RunningServer) -> None:
    plain = chat(server, max_tokens=1).json()["usage"]["prompt_tokens"]
    assert chat(server, max_tokens=1, add_special_tokens=True).json()["usage"]["prompt_tokens"] == plain + 1


def test_model_may_be_left_out(server: RunningServer) -> None:
    assert chat(server, max_tokens=1).json()["model"] == "fake"


def test_alias_is_reported_as_it_was_asked_for(server: RunningServer) -> None:
    assert chat(server, max_tokens=1, model="fake:latest").json()["model"] == "fake:latest"


def test_request_id_field_names_the_response(server: RunningServer) -> None:
    assert chat(server, max_tokens=1, request_id="my-id.1").json()["id"] == "chatcmpl-my-id.1"


def test_return_token_ids_shows_both_sides(server: RunningServer) -> None:
    answer = chat(server, return_token_ids=True, max_tokens=3).json()
    assert answer["choices"][0]["token_ids"] == list(b"The")
    assert len(answer["prompt_token_ids"]) == answer["usage"]["prompt_tokens"]
    assert "token_ids" not in chat(server, max_tokens=3).json()["choices"][0]


def test_nulls_are_as_good_as_absent(server: RunningServer) -> None:
    optional = ("n", "stop", "seed", "top_p", "stream", "stream_options", "logprobs", "logit_bias", "tools", "user")
    unknown = ("functions", "guided_json", "no_such_field")
    response = chat(server, max_tokens=3, **dict.fromkeys((*optional, *unknown)))
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == "The"


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "text"}},
        {"tools": []},
        {"tool_choice": "none"},
        {"parallel_tool_calls": True},
        {"store": False},
        {"metadata": {}},
        {"service_tier": "auto"},
        {"prompt_cache_key": "k", "safety_identifier": "u"},
        {"reasoning_effort": "none"},
        {"modalities": ["text"]},
        {"best_of": 1},
        {"top_k": -1},
        {"top_k": 0},
        {"logprobs": False},
    ],
    ids=str,
)
def test_values_that_ask_for_what_we_do_are_accepted(server: RunningServer, fields: dict[str, object]) -> None:
    response = chat(server, max_tokens=3, **fields)
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == "The"


def test_model_without_template_is_a_400(serve: Serve) -> None:
    response = chat(serve(FakeBackend(chat_template=None)))
    assert response.status_code == 400
    assert "chat template" in response.json()["error"]["message"]


def test_unknown_model_is_a_404_that_the_client_understands(server: RunningServer) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        server.client().chat.completions.create(model="x", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.code == "model_not_found"
    assert "The model 'x' does not exist." in caught.value.message


def test_prompt_logprobs_are_by_token_id(server: RunningServer) -> None:
    answer = chat(server, max_tokens=1, prompt_logprobs=2, return_token_ids=True).json()
    entries, token_ids = answer["prompt_logprobs"], answer["prompt_token_ids"]
    assert len(entries) == len(token_ids)
    assert entries[0] is None
    for token_id, entry in zip(token_ids[1:], entries[1:], strict=True):
        assert len(entry) in (2, 3)
        assert entry[str(token_id)]["logprob"] <= 0
