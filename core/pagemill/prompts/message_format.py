"""How a model writes its answers: which tool calls and which reasoning, as its chat template shows, or settings say.

Owns no state. The parsers themselves are imported when an answer is to be read. May not import a backend or HTTP.
"""

import re
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pagemill.prompts.reasoning import REASONING_FORMATS, ReasoningTags
from pagemill.prompts.tools import HELD_FORMATS, TOOL_FORMATS, ToolSchemas, new_call_id, tool_format

if TYPE_CHECKING:
    from pagemill.prompts.message_parser import MessageParser, ReadReasoning

HARMONY_TOOLS, HARMONY_REASONING = "openai", "openai_gptoss"  # both are parts of one format
TOOL_PARSERS = (*TOOL_FORMATS, HARMONY_TOOLS)
REASONING_PARSERS = (*REASONING_FORMATS, HARMONY_REASONING)

TAKES_TOOLS = re.compile(r"\btools\b")
# What a template that has it is for: the first that fits counts.
TOOLS_BY_MARK = (
    ("<|channel|>", HARMONY_TOOLS),
    ("<seed:tool_call>", "seed_oss"),
    ("｜DSML｜", "deepseek_v32"),
    ("<minimax:tool_call>", "minimax_m2"),
    ("<|tool_call_argument_begin|>", "kimi_k2"),
    ("<|START_ACTION|>", "cohere_command3"),
    ("<TOOLCALL>", "nemotron_json"),
    ("<tool_calls>", "minimax"),
    ("<parameter=", "qwen3_coder"),
    ("<arg_key>", "glm45"),
    ("[TOOL_CALLS]", "mistral"),
    ("<｜tool▁calls▁begin｜>", "deepseek_v3"),
    ("<|python_start|>", "llama4_pythonic"),
    ("<|tool_call_start|>", "pythonic"),
    ("<|tool_list_start|>", "pythonic"),
    ("[func_name1(", "pythonic"),
    ("<|tool_call|>", "granite"),
    ("<tool_call>", "hermes"),
)
TOOLS_OTHERWISE = "llama3_json"  # JSON objects without marks are what templates ask for that name none
REASONING_BY_MARK = (
    ("<|channel|>", HARMONY_REASONING),
    ("[THINK]", "mistral"),
    ("<|START_THINKING|>", "cohere_command3"),
    ("<seed:think>", "seed_oss"),
    ("<think>", "think"),
    ("</think>", "think"),
    ("<reasoning>", "reasoning"),
    ("Here is my thought process:", "granite"),
)


class MessageFormat(NamedTuple):
    """The names of the parsers, None for what the model's template has no place for."""

    tools: str | None
    reasoning: str | None

    @property
    def is_harmony(self) -> bool:
        return self.tools == HARMONY_TOOLS or self.reasoning == HARMONY_REASONING

    @property
    def of_held_calls(self) -> "MessageFormat":
        """How calls are written, and so read, where the model is held to their format."""
        return self._replace(tools=HELD_FORMATS.get(self.tools or "", self.tools))

    @property
    def reasoning_tags(self) -> ReasoningTags | None:
        """The tags around the reasoning; None: there is none, or it is told otherwise."""
        return REASONING_FORMATS.get(self.reasoning or "")

    def markers(self) -> Iterator[str]:
        """The texts that a parser goes by; where they are special tokens they must not be left out of the text."""
        if self.is_harmony:
            from pagemill.prompts import harmony

            yield from harmony.MARKERS
            return
        if self.tools is not None:
            yield from tool_format(self.tools).MARKERS
        if self.reasoning_tags is not None:
            yield from (*self.reasoning_tags.openings, *self.reasoning_tags.closings)

    def parser(self, tools: ToolSchemas | None, *, prompt: str, continued: str = "") -> "MessageParser | None":
        """A parser of an answer to the prompt, which has `continued` a message; None if all of it will be content.

        `tools` None: there are none in this answer.
        """
        tags, has_tools = self.reasoning_tags, tools is not None and self.tools is not None
        if tags is None and not has_tools and not self.is_harmony:
            return None
        from pagemill.prompts.message_parser import MessageParser

        if self.is_harmony:
            from pagemill.prompts import harmony

            return MessageParser(None, harmony.read, tools or {})
        reasoning: ReadReasoning | None = None
        if tags is not None:
            from pagemill.prompts.reasoning.tags import read_reasoning

            reasoning = partial(read_reasoning, tags=tags, is_open=tags.opened_by(prompt, continued))
        reader = tool_format(self.tools).read if has_tools and self.tools is not None else None
        prefix = "" if self.tools == "mistral" else "call_"  # its template takes ids of nine characters only
        layout = () if tags is None else tags.layout
        return MessageParser(reasoning, reader, tools or {}, new_id=partial(new_call_id, prefix), layout=layout)


def message_format(template: str, tool_call_parser: str = "auto", reasoning_parser: str = "auto") -> MessageFormat:
    """What the source of a chat template shows. A parser's name other than "auto" is taken as it is, "none" is none."""
    tools = _chosen(tool_call_parser, _first(TOOLS_BY_MARK, template) or TOOLS_OTHERWISE)
    reasoning = _chosen(reasoning_parser, _first(REASONING_BY_MARK, template))
    return MessageFormat(tools if TAKES_TOOLS.search(template) else None, reasoning)


def _first(marks: tuple[tuple[str, str], ...], template: str) -> str | None:
    return next((name for mark, name in marks if mark in template), None)


def _chosen(setting: str, found: str | None) -> str | None:
    return found if setting == "auto" else None if setting == "none" else setting
