"""Deltas read as reasoning, content and calls; what is counted and what is left out."""

import pytest

from pagemill.api.answer_reader import AnswerReader, WholeCall, WholeCalls
from pagemill.generation import Delta, FinishReason, Usage
from pagemill.prompts.message_events import Content, Reasoning, ToolCallArguments, ToolCallStart
from pagemill.prompts.message_format import MessageFormat


def delta(text: str, *, last: bool = False) -> Delta:
    return Delta(0, text, (1,), Usage(1, 1, 0), finish_reason=FinishReason.STOP if last else None)


def reader(*, tools: bool = True, prompt: str = "", **options: object) -> AnswerReader:
    parser = MessageFormat("hermes", "think").parser({} if tools else None, prompt=prompt)
    return AnswerReader(parser, **options)  # type: ignore[arg-type]  # by name


def test_without_a_parser_text_is_content() -> None:
    plain = AnswerReader()
    assert plain.read(delta("<think>a")) == [Content("<think>a")]
    assert plain.read(delta("", last=True)) == []
    assert (plain.has_calls, plain.num_reasoning_tokens) == (False, 0)


@pytest.mark.parametrize(
    ("prompt", "pieces", "count"),
    [
        ("", ["<think>", "a", "b", "</think>", "c"], 4),
        ("<think>", ["a", "b", "</think>", "c", "d"], 3),
        ("", ["a", "b"], 0),
        ("", ["<think>", "never", "ends"], 3),
    ],
)
def test_tokens_of_reasoning_and_its_tags_are_counted(prompt: str, pieces: list[str], count: int) -> None:
    counting = reader(prompt=prompt)
    for piece in pieces[:-1]:
        counting.read(delta(piece))
    counting.read(delta(pieces[-1], last=True))
    assert counting.num_reasoning_tokens == count


def test_reasoning_can_be_left_out_but_is_counted() -> None:
    hiding = reader(shows_reasoning=False)
    assert hiding.read(delta("<think>a</think>b ", last=True)) == [Content("b ")]
    assert hiding.num_reasoning_tokens == 1


def test_calls_beyond_the_most_are_left_out() -> None:
    one = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    events = reader(max_calls=1).read(delta(f"Hi {one}\n{one}", last=True))
    assert [type(event) for event in events] == [Content, ToolCallStart, ToolCallArguments]
    assert len(reader().read(delta(f"Hi {one}\n{one}", last=True))) == 5


def test_held_text_comes_out_at_the_end() -> None:
    holding = reader()
    assert holding.read(delta("a <tool_")) == [Content("a")]
    assert holding.read(delta("x", last=True)) == [Content(" <tool_x")]


def test_whole_calls_are_given_one_after_the_other() -> None:
    calls = WholeCalls()
    assert calls.finish() is None
    assert calls.add(ToolCallStart(0, "a", "f")) is None
    assert calls.add(ToolCallArguments(0, '{"x"')) is None
    assert calls.add(ToolCallArguments(0, ": 1}")) is None
    assert calls.add(ToolCallStart(1, "b", "g")) == WholeCall(0, "a", "f", '{"x": 1}')
    assert calls.finish() == WholeCall(1, "b", "g", "")
    assert calls.finish() is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": "b\nc"}', {"a": "b\nc"}),
        ("[1]", None),
        ("", None),
        ('{"a":', None),
        ("[" * 9999, None),
        ('{"a": NaN}', None),
        ('{"a": 1e999}', None),
    ],
)
def test_arguments_are_an_object_or_nothing(text: str, value: object) -> None:
    assert WholeCall(0, "a", "f", text).arguments_object() == value


def test_reasoning_comes_before_content() -> None:
    assert reader().read(delta("<think>a</think>b", last=True)) == [Reasoning("a"), Content("b")]
