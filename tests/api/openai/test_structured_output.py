"""Outputs in a format, on both kinds of completion, through the official client. The server's model says at random
what the format lets it.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, Serve, running_server

HELLO: Any = [{"role": "user", "content": "hi"}]
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "size": {"type": "integer", "minimum": 1, "maximum": 40}},
    "required": ["colour", "size"],
    "additionalProperties": False,
}
NAMED: Any = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}}
KINDS = {
    "regex": ("[ab]{3}", "[ab]{3}"),
    "choice": (["yes", "no", "<|im_end|>"], r"yes|no|<\|im_end\|>"),
    "grammar": ('root ::= "a" [0-9]{2}', "a[0-9]{2}"),
    "json": (SCHEMA, None),
}
THINKING = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(FakeBackend(reply=lambda prompt: None)) as running:
        yield running


def is_valid(text: str | None) -> bool:
    return bool(Draft202012Validator(SCHEMA).is_valid(json.loads(text or "")))


def fits(text: str, kind: str) -> bool:
    pattern = KINDS[kind][1]
    return is_valid(text) if pattern is None else re.fullmatch(pattern, text) is not None


def test_json_schema_holds_for_every_choice_streamed_or_not(server: RunningServer) -> None:
    client = server.client()
    answer = client.chat.completions.create(model="fake", messages=HELLO, response_format=NAMED, n=3, seed=1)
    assert [choice.finish_reason for choice in answer.choices] == ["stop"] * 3
    assert all(is_valid(choice.message.content) for choice in answer.choices)
    chunks = list(client.chat.completions.create(model="fake", messages=HELLO, response_format=NAMED, stream=True))
    assert is_valid("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_parse_gives_the_object_of_a_class(server: RunningServer) -> None:
    class Step(BaseModel):
        kind: Literal["add", "drop"]
        amount: int = Field(ge=0, le=99)

    class Plan(BaseModel):
        steps: list[Step] = Field(min_length=1, max_length=3)
        done: bool

    answer = server.client().chat.completions.parse(
        model="fake", messages=HELLO, response_format=Plan, seed=5, max_tokens=500
    )
    plan = answer.choices[0].message.parsed
    assert plan is not None
    assert 1 <= len(plan.steps) <= 3


def test_json_object_is_an_object(server: RunningServer) -> None:
    answer = server.client().chat.completions.create(
        model="fake", messages=HELLO, response_format={"type": "json_object"}, seed=1, logit_bias={"34": 3, "125": 8}
    )
    assert answer.choices[0].finish_reason == "stop"
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


@pytest.mark.parametrize("kind", KINDS)
def test_vllms_fields_and_the_older_ones_mean_the_same(server: RunningServer, kind: str) -> None:
    value = KINDS[kind][0]
    for fields in ({"structured_outputs": {kind: value}}, {f"guided_{kind}": value}):
        text = server.post("/v1/completions", {"prompt": ["hi", [65, 66]], "max_tokens": 99, **fields}).json()
        assert all(fits(choice["text"], kind) for choice in text["choices"]), text
        chat = server.post("/v1/chat/completions", {"messages": HELLO, **fields}).json()
        assert fits(chat["choices"][0]["message"]["content"], kind)


def test_a_schema_may_be_text_and_white_space_may_be_ruled_out(server: RunningServer) -> None:
    wanted = {"json": json.dumps(SCHEMA), "disable_any_whitespace": True}
    text = server.post("/v1/completions", {"prompt": "hi", "max_tokens": 99, "structured_outputs": wanted}).json()
    assert re.fullmatch(r'\{"colour":"\w+","size":\d+\}', text["choices"][0]["text"])


def test_an_output_that_runs_out_of_tokens_says_so(server: RunningServer) -> None:
    answer = server.client().chat.completions.create(
        model="fake", messages=HELLO, response_format=NAMED, max_completion_tokens=3
    )
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_schema_is_a_400_that_says_where(server: RunningServer, stream: bool) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "thing"}}}}
    wrong: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(openai.BadRequestError, match=r"at /properties/a/items: Invalid type: thing") as caught:
        server.client().chat.completions.create(model="fake", messages=HELLO, response_format=wrong, stream=stream)
    assert caught.value.param == "response_format.json_schema.schema"
    assert caught.value.code == "invalid_value"


def test_a_keyword_that_is_not_supported_is_a_400_that_names_it(server: RunningServer) -> None:
    schema = {"properties": {"a": {"type": "array", "uniqueItems": True}}}
    response = server.post("/v1/completions", {"prompt": "x", "structured_outputs": {"json": schema}})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["message"] == "structured_outputs.json at /properties/a: uniqueItems is not supported"
    assert error["code"] == "unsupported_parameter"


def test_a_format_may_only_be_so_large(serve: Serve) -> None:
    server = serve(max_grammar_bytes=100)
    response = server.post("/v1/completions", {"prompt": "x", "guided_regex": "a" * 101})
    assert response.status_code == 400
    assert "max_grammar_bytes" in response.json()["error"]["message"]
    assert server.post("/v1/completions", {"prompt": "x", "guided_regex": "a" * 99}).status_code == 200


def test_a_format_holds_after_the_thinking(serve: Serve) -> None:
    backend = FakeBackend(reply=lambda prompt: [*b"well...</think>\n\n"], chat_template=THINKING)
    server = serve(backend)
    answer = server.post(
        "/v1/chat/completions", {"messages": HELLO, "response_format": NAMED, "temperature": 0, "max_tokens": 500}
    ).json()["choices"][0]
    assert answer["finish_reason"] == "stop"
    assert answer["message"]["reasoning"] == "well..."
    assert is_valid(answer["message"]["content"])
