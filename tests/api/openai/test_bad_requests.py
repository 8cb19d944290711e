"""What is wrong with a request is a 400 that names the field and the value; nothing is ignored in silence."""

from typing import Any

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.api_server import RunningServer, Serve

HELLO = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}

BOTH: list[tuple[dict[str, object], str]] = [
    ({"seed": 2**63}, "seed"),
    ({"seed": -(2**63) - 1}, "seed"),
    ({"seed": "x"}, "seed"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.1}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"min_p": 2}, "min_p"),
    ({"typical_p": 0}, "typical_p"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"repetition_penalty": 1e-40}, "repetition_penalty"),
    ({"presence_penalty": 2.1}, "presence_penalty"),
    ({"frequency_penalty": -2.1}, "frequency_penalty"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"min_tokens": -1}, "min_tokens"),
    ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"best_of": 2}, "best_of"),
    ({"n": 2, "best_of": 3}, "best_of"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a", ""]}, "stop"),
    ({"stop": 5}, "stop"),
    ({"stop": ["x"] * 33}, "stop"),
    ({"stop_token_ids": [1] * 33}, "stop_token_ids"),
    ({"stop_token_ids": [100_000]}, "stop_token_ids"),
    ({"stop_token_ids": [-1]}, "stop_token_ids"),
    ({"logit_bias": {"a": 1}}, "logit_bias"),
    ({"logit_bias": {"1.5": 1}}, "logit_bias"),
    ({"logit_bias": {"-1": 1}}, "logit_bias"),
    ({"logit_bias": {"100000": 1}}, "logit_bias"),
    ({"logit_bias": {"5": 101}}, "logit_bias.5"),
    ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
    ({"allowed_token_ids": []}, "allowed_token_ids"),
    ({"allowed_token_ids": [-1]}, "allowed_token_ids"),
    ({"allowed_token_ids": [100_000]}, "allowed_token_ids"),
    ({"allowed_token_ids": ["a"]}, "allowed_token_ids[0]"),
    ({"allowed_token_ids": [1] * 1025}, "allowed_token_ids"),
    ({"prompt_logprobs": -1}, "prompt_logprobs"),
    ({"prompt_logprobs": 21}, "prompt_logprobs"),
    ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
    ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"other": True}}, "stream_options.other"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "include_obfuscation"),
    ({"request_id": "a b"}, "request_id"),
    ({"request_id": ""}, "request_id"),
    ({"priority": "high"}, "priority"),
    ({"guided_json": 5}, "guided_json"),
    ({"guided_json": {"type": "thing"}}, "guided_json"),
    ({"guided_regex": "(("}, "guided_regex"),
    ({"guided_choice": []}, "guided_choice"),
    ({"guided_choice": ["a", ""]}, "guided_choice"),
    ({"guided_grammar": "start: a"}, "guided_grammar"),
    ({"guided_json_object": True}, "guided_json_object"),
    ({"guided_decoding_backend": "xgrammar"}, "guided_decoding_backend"),
    ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
    ({"structured_outputs": {"json": "{}", "regex": "a"}}, "structured_outputs.regex"),
    ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
    ({"structured_outputs": {"regex": "a"}, "guided_choice": ["a"]}, "guided_choice"),
    ({"structured_outputs": {"regex": ""}}, "structured_outputs.regex"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
    ({"response_format": {"type": "structural_tag"}}, "response_format.type"),
    ({"response_format": {}}, "response_format.type"),
    ({"bad_words": "x"}, "bad_words"),
    ({"bad_words": ["x", " "]}, "bad_words"),
    ({"bad_words": ["x"] * 1025}, "bad_words"),
    ({"no_such_field": 1}, "no_such_field"),
    ({"user": 5}, "user"),
]

CHAT: list[tuple[dict[str, object], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [*HELLO, {"role": "", "content": "x"}]}, "messages[1].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": "x"}] * 4097}, "messages"),
    ({"messages": [{"role": "assistant", "tool_calls": "x"}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0].function"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        "messages[0].tool_calls[0].function.arguments",
    ),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"logprobs": 1}, "logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"add_generation_prompt": True, "continue_final_message": True}, "continue_final_message"),
    ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"self": 1}}, "chat_template_kwargs"),
    ({"tools": [TOOL]}, "tools"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"store": True}, "store"),
    ({"metadata": {"a": "b"}}, "metadata"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "x"}}, "audio"),
    ({"echo": True}, "echo"),
    ({"functions": []}, "functions"),
]

COMPLETION: list[tuple[dict[str, object], str]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": ["a", ""]}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": [1.5]}, "prompt"),
    ({"prompt": [True]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": [10**30]}, "prompt"),
    ({"prompt": ["a"] * 129}, "prompt"),
    ({"logprobs": -1}, "logprobs"),
    ({"logprobs": 21}, "logprobs"),
    ({"logprobs": True}, "logprobs"),
    ({"suffix": "x"}, "suffix"),
    ({"messages": HELLO}, "messages"),
    ({"max_completion_tokens": 5}, "max_completion_tokens"),
]


def check(server: RunningServer, path: str, body: dict[str, object], param: str) -> dict[str, Any]:
    response = server.post(path, body)
    assert response.status_code == 400, response.text
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert param.split(".")[0].split("[")[0] in error["message"]
    return error


def _ids(case: object) -> str:
    return repr(case)[:60]


@pytest.mark.parametrize(("fields", "param"), BOTH + CHAT, ids=_ids)
def test_bad_chat_field_is_a_400_that_names_it(server: RunningServer, fields: dict[str, object], param: str) -> None:
    check(server, "/v1/chat/completions", {"messages": HELLO, **fields}, param)


@pytest.mark.parametrize(("fields", "param"), BOTH + COMPLETION, ids=_ids)
def test_bad_completion_field_is_a_400_that_names_it(
    server: RunningServer, fields: dict[str, object], param: str
) -> None:
    check(server, "/v1/completions", {"prompt": "hi", **fields}, param)


def test_required_field_is_named(server: RunningServer) -> None:
    assert "required" in check(server, "/v1/chat/completions", {}, "messages")["message"]
    assert "required" in check(server, "/v1/completions", {"model": "fake"}, "prompt")["message"]


def test_unsupported_fields_have_their_own_code(server: RunningServer) -> None:
    for field, value in (("tools", [TOOL]), ("no_such_field", 1), ("guided_whitespace_pattern", " ")):
        error = check(server, "/v1/chat/completions", {"messages": HELLO, field: value}, field)
        assert error["code"] == "unsupported_parameter"


def test_message_repeats_the_value_but_not_all_of_a_long_one(server: RunningServer) -> None:
    assert "'hot'" in check(server, "/v1/completions", {"prompt": "x", "top_p": "hot"}, "top_p")["message"]
    long = check(server, "/v1/completions", {"prompt": "x", "top_p": "y" * 10_000}, "top_p")["message"]
    assert len(long) < 500


@pytest.mark.parametrize(
    "body",
    [b"", b"  ", b"{", b"[]", b"null", b"5", b'"x"', b'{"messages": "\\ud800"}', b"\xff\xfe", b"[" * 5000],
    ids=repr,
)
def test_body_that_is_no_json_object_is_a_400(server: RunningServer, body: bytes) -> None:
    response = httpx.post(server.url + "/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_nan_and_infinity_are_no_numbers(server: RunningServer) -> None:
    for value in (b"NaN", b"Infinity", b"1e999"):
        response = httpx.post(server.url + "/v1/completions", content=b'{"prompt": "x", "temperature": ' + value + b"}")
        assert response.status_code == 400
        assert "temperature" in response.json()["error"]["message"] or "JSON" in response.json()["error"]["message"]


def test_official_client_raises_bad_request(server: RunningServer) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        server.client().chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "hi"}], extra_body={"no_such_field": {}}
        )
    assert caught.value.param == "no_such_field"


def test_limits_are_settings(serve: Serve) -> None:
    server = serve(max_n=2, max_logprobs=3, max_stop=1, max_prompts=2, max_messages=1, max_logit_bias=1)
    for fields, param in (
        ({"n": 3}, "n"),
        ({"logprobs": 4}, "logprobs"),
        ({"stop": ["a", "b"]}, "stop"),
        ({"prompt": ["a", "b", "c"]}, "prompt"),
        ({"logit_bias": {"1": 1, "2": 1}}, "logit_bias"),
        ({"allowed_token_ids": [1, 2]}, "allowed_token_ids"),
    ):
        check(server, "/v1/completions", {"prompt": "x", **fields}, param)
    check(server, "/v1/chat/completions", {"messages": HELLO * 2}, "messages")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)
FIELDS = sorted(
    {name for fields, _param in BOTH + CHAT + COMPLETION for name in fields} | {"model", "echo", "ignore_eos"}
)
MOSTLY_RIGHT = {
    "messages": st.just(HELLO) | st.lists(st.fixed_dictionaries({"role": st.text(max_size=3), "content": JSON})),
    "prompt": st.text(max_size=5) | st.lists(st.integers(-1, 300), max_size=3) | st.lists(st.text(max_size=3)),
    "max_tokens": st.integers(-1, 8),
    "n": st.integers(0, 3),
    "stream": st.booleans(),
    "temperature": st.floats(0, 2),
    "logprobs": st.booleans() | st.integers(0, 3),
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/v1/chat/completions", "/v1/completions"]),
    right=st.fixed_dictionaries({}, optional=MOSTLY_RIGHT),
    wild=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=2),
)
def test_no_json_makes_the_server_fail(
    server: RunningServer, path: str, right: dict[str, object], wild: dict[str, object]
) -> None:
    response = server.post(path, {"max_tokens": 4, **right, **wild})
    assert response.status_code < 500, response.text
    assert response.status_code in (200, 400, 404)
    assert '"code":"internal_error"' not in response.text
