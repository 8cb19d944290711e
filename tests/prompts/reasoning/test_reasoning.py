"""Reasoning before an answer, in every format, whole and in pieces."""

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagemill.prompts.message_events import Content, Event, Reasoning
from pagemill.prompts.message_parser import MessageParser, ReadReasoning
from pagemill.prompts.reasoning import REASONING_FORMATS, THINK
from pagemill.prompts.reasoning.tags import read_reasoning
from pagemill.prompts.tools import tool_format
from support.answer_events import call, cut, joined, read, scrambled

ALL = sorted(REASONING_FORMATS)


def reader(name: str, *, is_open: bool = False) -> ReadReasoning:
    return partial(read_reasoning, tags=REASONING_FORMATS[name], is_open=is_open)


def read_whole(name: str, text: str, *, is_open: bool = False) -> list[Event]:
    return read([text], reasoning=reader(name, is_open=is_open))


@pytest.mark.parametrize("name", ALL)
def test_reasoning_is_told_from_the_answer(name: str) -> None:
    tags = REASONING_FORMATS[name]
    for opening in tags.openings:
        for closing in tags.closings:
            text = f"{opening}\nIt is easy.\n\nYes.\n{closing}\n\nForty-two.\n"
            assert read_whole(name, text) == [Reasoning("It is easy.\n\nYes."), Content("Forty-two.\n")]


@pytest.mark.parametrize("name", ALL)
def test_reasoning_that_the_prompt_has_opened_needs_no_opening(name: str) -> None:
    closing = REASONING_FORMATS[name].closings[0]
    assert read_whole(name, f"Easy.\n{closing}\n\n42", is_open=True) == [Reasoning("Easy."), Content("42")]
    assert read_whole(name, f"{closing}42", is_open=True) == [Content("42")]


@pytest.mark.parametrize("name", ALL)
def test_reasoning_that_is_cut_off_is_reasoning(name: str) -> None:
    assert read_whole(name, f"{REASONING_FORMATS[name].openings[0]} So far") == [Reasoning("So far")]


@pytest.mark.parametrize("text", ["42", " \n42", "<b>42</b>", "<thin", "</think> no", "So <think>x</think>"])
def test_an_answer_without_an_opening_is_all_content(text: str) -> None:
    assert read_whole("think", text) == [Content(text)]


def test_the_opening_is_taken_out_where_the_prompt_has_it_already() -> None:
    assert read_whole("deepseek_r1", "<think>\nEasy.</think>42", is_open=True) == [Reasoning("Easy."), Content("42")]


def test_an_empty_thought_is_none() -> None:
    assert read_whole("qwen3", "<think>\n\n</think>\n\nHi") == [Content("Hi")]


def test_tool_calls_come_after_reasoning_and_not_from_within() -> None:
    hermes = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
    text = f"<think>I could write {hermes}</think>\n{hermes}"
    events = read([text], reasoning=reader("think"), tools=tool_format("hermes").read)
    assert events == [Reasoning(f"I could write {hermes}"), *call(0, "get_time", "{}")]


@settings(max_examples=200, deadline=None)
@given(data=st.data(), name=st.sampled_from(ALL), is_open=st.booleans())
def test_wherever_a_text_is_cut_the_same_comes_out(data: st.DataObject, name: str, is_open: bool) -> None:
    tags = REASONING_FORMATS[name]
    real = f"{tags.openings[0]}\nLet me see: <b>.\n{tags.closings[0]}\n\nHere.\n"
    text = data.draw(st.just(real) | scrambled(real, [*tags.openings, *tags.closings]))
    pieces = data.draw(cut(text))
    assert read(pieces, reasoning=reader(name, is_open=is_open)) == read_whole(name, text, is_open=is_open)


@pytest.mark.parametrize(
    ("prompt", "continued", "is_open"),
    [
        ("<|im_start|>assistant\n", "", False),
        ("<|im_start|>assistant\n<think>\n", "", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "", False),
        ("user: what is <think>?\nassistant:", "", False),
        ("assistant:<think>Let me", "<think>Let me", True),
        ("assistant:<think>Let me</think>So", "<think>Let me</think>So", False),
    ],
)
def test_the_end_of_the_prompt_says_whether_reasoning_is_open(prompt: str, continued: str, is_open: bool) -> None:
    assert THINK.opened_by(prompt, continued) is is_open
    assert REASONING_FORMATS["deepseek_r1"].opened_by(prompt, continued)


def test_a_parser_says_whether_what_comes_is_reasoning() -> None:
    parser = MessageParser(reader("think"), None, {})
    states = [(parser.feed(piece), parser.reasons)[1] for piece in ("<thi", "nk>", "a", "</thi", "nk>", "b")]
    assert states == [False, True, True, True, False, False]
    assert joined(parser.finish()) == []
    assert MessageParser(reader("think", is_open=True), None, {}).reasons
