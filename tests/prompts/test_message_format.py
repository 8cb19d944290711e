"""Which parsers a chat template asks for, and what settings change of it."""

from pathlib import Path
from typing import Any, get_args

import pytest

from pagemill.prompts.chat_template import ChatTemplate
from pagemill.prompts.message_events import Content, Reasoning, ToolCallStart
from pagemill.prompts.message_format import REASONING_PARSERS, TOOL_PARSERS, MessageFormat, message_format
from pagemill.settings import Settings
from pagemill.validated import fields
from support.answer_events import joined

GRIST = Path(__file__).parents[2] / "core/pagemill/store/demo/grist/chat_template.jinja"
TEMPLATES = Path(__file__).parent / "templates"


def of(source: str) -> tuple[str | None, str | None]:
    found = message_format(source)
    return found.tools, found.reasoning


@pytest.mark.parametrize(
    ("source", "tools", "reasoning"),
    [
        ("{{ messages }}", None, None),
        ("{{ messages }}<think>", None, "think"),
        ("{{ tools }} Answer with JSON", "llama3_json", None),
        ("{{ tools }}<|python_tag|>", "llama3_json", None),
        ("{{ tools }}<tool_call>", "hermes", None),
        ("{{ tools }}<tool_call>{% if enable_thinking %}</think>", "hermes", "think"),
        ("{{ tools }}<tool_call><function=x><parameter=y>", "qwen3_coder", None),
        ("{{ tools }}<seed:tool_call><function=x><parameter=y>", "seed_oss", None),
        ("{{ tools }}<tool_call><arg_key>", "glm45", None),
        ("{{ tools }}<|tool_list_start|>", "pythonic", None),
        ("{{ tools }}[TOOL_CALLS]", "mistral", None),
        ("{{ tools }}<' + '｜DSML｜' + 'function_calls><think>", "deepseek_v32", "think"),
        ("{{ tools }}<minimax:tool_call><think>", "minimax_m2", "think"),
        ("{{ tools }}<tool_calls></tool_calls>", "minimax", None),
        ("{{ tools }}<|tool_call_begin|>{{ id }}<|tool_call_argument_begin|>", "kimi_k2", None),
        ("{{ tools }}<|START_THINKING|><|START_ACTION|>", "cohere_command3", "cohere_command3"),
        ("{{ tools }}<TOOLCALL><think>", "nemotron_json", "think"),
        ("{{ tools }}[TOOL_CALLS][THINK]", "mistral", "mistral"),
        ("{{ tools }}<｜tool▁calls▁begin｜><think>", "deepseek_v3", "think"),
        ("{{ tools }}<|python_start|>", "llama4_pythonic", None),
        ("{{ tools }}<|tool_call_start|>", "pythonic", None),
        ("{{ tools }}<|tool_call|>Here is my thought process:", "granite", "granite"),
        ("{{ tools }}<|channel|>", "openai", "openai_gptoss"),
        ("{{ messages }}<seed:think>", None, "seed_oss"),
        ("{{ messages }}<reasoning>", None, "reasoning"),
    ],
)
def test_a_template_shows_how_its_model_writes(source: str, tools: str | None, reasoning: str | None) -> None:
    assert of(source) == (tools, reasoning)


def test_real_templates_are_recognised() -> None:
    assert of(GRIST.read_text()) == ("hermes", None)
    assert of((TEMPLATES / "qwen2_5.jinja").read_text()) == ("hermes", None)
    assert of((TEMPLATES / "chatml.jinja").read_text()) == (None, None)


def test_settings_go_before_the_template() -> None:
    source = "{{ tools }}<tool_call><think>"
    assert message_format(source, "mistral", "granite") == MessageFormat("mistral", "granite")
    assert message_format(source, "none", "none") == MessageFormat(None, None)
    template = ChatTemplate(source, bos_token="", eos_token="", tool_call_parser="pythonic", reasoning_parser="none")
    assert template.message_format == MessageFormat("pythonic", None)


def test_no_setting_gives_tools_to_a_template_that_shows_none() -> None:
    assert message_format("{{ messages }}", "hermes").tools is None


@pytest.mark.parametrize(
    ("setting", "names"), [("tool_call_parser", TOOL_PARSERS), ("reasoning_parser", REASONING_PARSERS)]
)
def test_the_settings_list_all_parsers(setting: str, names: tuple[str, ...]) -> None:
    assert get_args(fields(Settings)[setting].annotation) == ("auto", "none", *names)


@pytest.mark.parametrize("tools", [None, *TOOL_PARSERS])
@pytest.mark.parametrize("reasoning", [None, *REASONING_PARSERS])
def test_any_two_parsers_go_together(tools: str | None, reasoning: str | None) -> None:
    chosen = MessageFormat(tools, reasoning)
    parser = chosen.parser({} if tools else None, prompt="")
    assert (parser is None) == (tools is None and reasoning is None)
    assert all(isinstance(marker, str) for marker in chosen.markers())


def test_without_tools_in_the_request_calls_are_content() -> None:
    assert MessageFormat("hermes", None).parser(None, prompt="") is None


@pytest.mark.parametrize("tools", [None, {}])
def test_what_stands_around_an_answer_is_left_out(tools: dict[str, Any] | None) -> None:
    text = "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>It is.<|END_RESPONSE|>"
    parser = MessageFormat("cohere_command3", "cohere_command3").parser(tools, prompt="")
    assert parser is not None
    assert joined(parser.feed(text) + parser.finish()) == [Reasoning("Hm."), Content("It is.")]


def test_ids_are_as_the_models_templates_take_them() -> None:
    for name, text, length in (
        ("mistral", "[TOOL_CALLS]f[ARGS]{}", 9),
        ("hermes", '<tool_call>{"name": "f"}</tool_call>', 14),
    ):
        parser = MessageFormat(name, None).parser({}, prompt="")
        assert parser is not None
        start = (parser.feed(text) + parser.finish())[0]
        assert isinstance(start, ToolCallStart)
        assert len(start.id) == length
        assert start.id.removeprefix("call_").isalnum()
