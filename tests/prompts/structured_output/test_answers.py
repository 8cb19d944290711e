"""Where in an answer a format holds, for models that reason and models that don't."""

from collections.abc import Sequence

import pytest

from pagemill.prompts.message_format import MessageFormat
from pagemill.prompts.structured_output.answers import within_answer
from pagemill.prompts.structured_output.formats import Text
from support.outputs import accepts, byte_compiler

THINK = MessageFormat(None, "think")


@pytest.mark.parametrize(
    ("message_format", "prompt", "outputs", "others"),
    [
        (MessageFormat(None, None), "x", ["42"], ["<think></think>42", " 42"]),
        (THINK, "x<think>\n", ["hm</think>\n\n42", "</think>42"], ["42", "hm</think>no", "hm"]),
        (THINK, "x", ["42", "<think>hm</think>42", "\n<think>\n1</think>\n\n42"], ["hm</think>42", "<think>42"]),
        (MessageFormat(None, "deepseek_r1"), "x", ["hm</think>42"], ["42"]),
        (
            MessageFormat(None, "granite"),
            "x",
            ["Here's my thought process: hm. Here is my response: 42", "42"],
            ["Here's my thought process: 42"],
        ),
        (
            MessageFormat(None, "cohere_command3"),
            "x",
            ["42", "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>42<|END_RESPONSE|>"],
            ["<|START_RESPONSE|>no", "<|START_RESPONSE|><|START_RESPONSE|>42", "42<|START_THINKING|>"],
        ),
        (
            MessageFormat("openai", "openai_gptoss"),
            "x",
            [
                "<|channel|>final<|message|>42",
                "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>42",
            ],
            ["42", "<|channel|>analysis<|message|>42"],
        ),
    ],
)
def test_a_format_holds_after_the_thinking(
    message_format: MessageFormat, prompt: str, outputs: Sequence[str], others: Sequence[str]
) -> None:
    wanted = within_answer(message_format, Text("42"), prompt=prompt)
    assert wanted is not None
    grammar = byte_compiler().compile(wanted)
    assert [text for text in outputs if not accepts(grammar, text)] == []
    assert [text for text in others if accepts(grammar, text)] == []


def test_a_message_that_is_continued_within_its_thinking_goes_on_to_its_end() -> None:
    wanted = within_answer(THINK, Text("42"), prompt="x<think>so", continued="<think>so")
    assert wanted is not None
    assert accepts(byte_compiler().compile(wanted), " far</think>42")
