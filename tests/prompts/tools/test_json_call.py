"""Calls that are not quite what they should be: read as far as they are a call, never lost."""

import json

import pytest

from pagemill.prompts.message_events import Content, Event, ToolCallArguments
from support.answer_events import call, read_format


@pytest.mark.parametrize(
    ("text", "events"),
    [
        pytest.param(
            '<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call>', call(0, "f", '{"a": 1}'), id="a brace too few"
        ),
        pytest.param(
            '<tool_call>{"name": "f", "arguments": {"a": 1}}}</tool_call>', call(0, "f", '{"a": 1}'), id="one too many"
        ),
        pytest.param('<tool_call>{"name": "f", "arguments": {"a": 1}}', call(0, "f", '{"a": 1}'), id="no end mark"),
        pytest.param(
            '<tool_call>{"name": "f", "arguments": {"a": "bc', call(0, "f", '{"a": "bc'), id="cut off in the arguments"
        ),
        pytest.param(
            '<tool_call>{"name": "f", "arguments": {\'a\': 1}}</tool_call> ok',
            [*call(0, "f", "{'a': 1}}"), Content(" ok")],
            id="no JSON: given as it is, up to the end mark",
        ),
        pytest.param(
            '<tool_call>{"name": "f", "arguments": {"a": [1}}</tool_call>',
            call(0, "f", '{"a": [1}}'),
            id="brackets that do not match",
        ),
        pytest.param(
            '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>',
            call(0, "f", '{"a": 1}'),
            id="arguments as JSON in a string",
        ),
        pytest.param('<tool_call>{"name": "f", "arguments": null}</tool_call>', call(0, "f", "{}"), id="null"),
        pytest.param(
            '<tool_call>{"id": "x", "type": "function", "name": "f", "arguments": {}, "why": [1]}</tool_call>',
            call(0, "f", "{}"),
            id="further members",
        ),
        pytest.param(
            '<tool_call>{"name": "f", "arguments": 5}</tool_call>',
            [Content('<tool_call>{"name": "f", "arguments": 5}</tool_call>')],
            id="arguments that are no object",
        ),
        pytest.param(
            '<tool_call>{"name": "f", "arguments": {}}<tool_call>{"name": "g", "arguments": {}}',
            [*call(0, "f", "{}"), *call(1, "g", "{}")],
            id="two without end marks",
        ),
        pytest.param(
            '<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}}</tool_call>',
            call(0, "f", '{"a": "</tool_call>"}'),
            id="the end mark in a string",
        ),
        pytest.param(
            'a <tool_call> b <tool_call>{"name": "f", "arguments": {}}</tool_call>',
            [Content("a <tool_call> b"), *call(0, "f", "{}")],
            id="a call after what looks like one",
        ),
    ],
)
def test_hermes_calls_that_are_not_quite_right(text: str, events: list[Event]) -> None:
    assert read_format("hermes", text) == events


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", '<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "f", "arguments": "{\\"a\\": \\"\\ud800\\"}"}</tool_call>'),
        ("hermes", '<tool_call>{"name": "f", "arguments": ' + '"[' + "[" * 9999 + '"}</tool_call>'),
        ("pythonic", "<|python_start|>[f(a='\\ud800', b=1e999, c=1j, d=x, e={1: 2})]"),
        ("qwen3_coder", '<function=get_weather><parameter=note>"\\ud800"</parameter><parameter=days>1e999</parameter>'),
    ],
)
def test_whatever_a_model_writes_can_be_sent(name: str, text: str) -> None:
    for event in read_format(name, text):
        assert "".join(str(part) for part in event).encode()
        if isinstance(event, ToolCallArguments) and event.text.endswith("}"):
            json.dumps(json.loads(event.text), allow_nan=False)


def test_a_list_goes_on_as_content_where_it_has_no_calls() -> None:
    text = '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"x": 1}] end'
    assert read_format("mistral", text) == [*call(0, "f", "{}"), Content('{"x": 1}] end')]


def test_broken_arguments_end_where_the_next_call_begins() -> None:
    text = '[TOOL_CALLS]f[ARGS]{"a": oops!}[TOOL_CALLS]g[ARGS]{}'
    assert read_format("mistral", text) == [*call(0, "f", '{"a": oops!}'), *call(1, "g", "{}")]
