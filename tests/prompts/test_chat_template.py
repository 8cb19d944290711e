"""ChatTemplate: beside transformers, whose conventions it follows, and where a template refuses or fails."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pagemill.errors import InvalidRequestError, ModelLoadError
from pagemill.prompts.chat_template import ChatTemplate

TEMPLATES = Path(__file__).parent / "templates"
FAMILIES = ("chatml", "qwen2_5", "llama_3", "mistral", "gemma", "conventions")
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

USER = {"role": "user", "content": "  What is 2 < 3 & 'é' \"日本\"?\n"}
ASSISTANT = {"role": "assistant", "content": " True, I think. "}
SYSTEM = {"role": "system", "content": "Be brief. <b>"}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "ü"}}}],
}
RESULT = {"role": "tool", "content": "3"}
TOOLS = [
    {"type": "function", "function": {"name": "add", "description": "a + b <é>", "parameters": {"type": "object"}}}
]
PARTS_TEMPLATE = "{% for m in messages %}<{% for part in m.content %}{{ part.text }}{% endfor %}>{% endfor %}"
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one question": [USER],
    "a system message": [SYSTEM, USER],
    "several turns": [USER, ASSISTANT, USER],
    "system and several turns": [SYSTEM, USER, ASSISTANT, USER],
    "a tool call": [USER, CALL, RESULT],
    "an end": [USER, ASSISTANT, {"role": "user", "content": "stop here"}, ASSISTANT],
    "two users": [USER, USER],
}


def template(name: str) -> ChatTemplate:
    return ChatTemplate((TEMPLATES / f"{name}.jinja").read_text(), **SPECIAL_TOKENS)


def by_transformers(name: str, messages: list[dict[str, Any]], **kwargs: Any) -> str:
    render = pytest.importorskip("transformers.utils.chat_template_utils").render_jinja_template
    source = (TEMPLATES / f"{name}.jinja").read_text()
    (text,), _ = render([messages], chat_template=source, **{**SPECIAL_TOKENS, **kwargs})
    return str(text)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
@pytest.mark.parametrize("tools", [None, TOOLS], ids=["no tools", "tools"])
@pytest.mark.parametrize("add_generation_prompt", [True, False], ids=["open", "closed"])
def test_rendering_equals_that_of_transformers(
    family: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, add_generation_prompt: bool
) -> None:
    kwargs: dict[str, Any] = {
        "add_generation_prompt": add_generation_prompt,
        "documents": [{"title": "b", "text": "<é>"}, {"title": "a", "number": 1}],
        "enable_thinking": False,
        "date_string": "23 Nov 2026",
    }
    expected: str | None = None
    refusal = ""
    try:
        expected = by_transformers(family, messages, tools=tools, **kwargs)
    except Exception as error:
        refusal = str(error)
    if expected is not None:
        assert template(family).render(messages, tools=tools, **kwargs) == expected
    else:
        with pytest.raises(InvalidRequestError) as caught:
            template(family).render(messages, tools=tools, **kwargs)
        assert refusal in caught.value.message
        assert caught.value.param == "messages"


def test_most_pairs_of_family_and_conversation_render_rather_than_refuse() -> None:
    rendered = 0
    for family in FAMILIES:
        for messages in CONVERSATIONS.values():
            try:
                rendered += bool(template(family).render(messages))
            except InvalidRequestError:
                continue
    assert rendered >= 30


@pytest.mark.parametrize("family", ["chatml", "qwen2_5", "llama_3", "gemma"])
@pytest.mark.parametrize("content", ["Once upon", "Once upon "], ids=["text", "text with a space at its end"])
def test_a_continued_message_is_left_open_as_by_transformers(family: str, content: str) -> None:
    messages = [USER, {"role": "assistant", "content": content}]
    kwargs: dict[str, Any] = {"add_generation_prompt": False, "continue_final_message": True, "date_string": "x"}
    text = template(family).render(messages, **kwargs)
    assert text == by_transformers(family, messages, **kwargs)
    assert text.endswith(content.rstrip() if family in ("llama_3", "gemma") else content)


def test_a_continued_message_in_parts_is_left_open_after_its_last_text() -> None:
    parts = [{"type": "text", "text": "Once "}, {"type": "text", "text": "upon"}]
    messages = [{"role": "assistant", "content": parts}]
    whole = ChatTemplate(PARTS_TEMPLATE, **SPECIAL_TOKENS)
    assert whole.render(messages, add_generation_prompt=False, continue_final_message=True) == "<Once upon"
    assert parts[1]["text"] == "upon", "the caller's messages must stay as they are"


def test_a_template_that_leaves_the_last_message_out_cannot_continue_it() -> None:
    with pytest.raises(InvalidRequestError, match="drops or changes the last message"):
        ChatTemplate("x", **SPECIAL_TOKENS).render([USER], add_generation_prompt=False, continue_final_message=True)


def test_a_continued_message_excludes_a_generation_prompt() -> None:
    with pytest.raises(InvalidRequestError, match="exclude one another"):
        template("chatml").render([ASSISTANT], continue_final_message=True)


@pytest.mark.parametrize("messages", [[], [{"role": "assistant", "content": None}]])
def test_continuing_nothing_is_refused(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidRequestError, match="continue_final_message needs"):
        template("chatml").render(messages, add_generation_prompt=False, continue_final_message=True)


def test_a_refusal_carries_the_templates_own_message() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        template("gemma").render([SYSTEM, USER])
    assert caught.value.message == "System role not supported"
    assert caught.value.param == "messages"
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "messages",
    [[{"role": "user", "content": None}], [{"role": "user", "content": 1}], [{"role": "user"}]],
    ids=["null", "a number", "absent"],
)
def test_a_template_that_stumbles_over_a_message_is_the_clients_error(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidRequestError, match="can't render these messages"):
        template("chatml").render(messages)


def test_a_template_with_broken_syntax_is_the_models_error() -> None:
    with pytest.raises(ModelLoadError, match="not valid Jinja"):
        ChatTemplate("{% for message in %}", **SPECIAL_TOKENS).render([USER])


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{% set ns = namespace(_x=1) %}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_the_sandbox_holds_a_hostile_template(source: str) -> None:
    messages = [USER]
    with pytest.raises(InvalidRequestError, match="can't render these messages"):
        ChatTemplate(source, **SPECIAL_TOKENS).render(messages)
    assert messages == [USER]


def test_strftime_now_gives_the_present_date() -> None:
    before = datetime.now().strftime("%Y-%m-%d")
    text = ChatTemplate("{{ strftime_now('%Y-%m-%d') }}", **SPECIAL_TOKENS).render([])
    assert text in (before, datetime.now().strftime("%Y-%m-%d"))


def test_namespace_takes_a_mapping_and_any_name_without_underscore() -> None:
    source = "{% set ns = namespace(dict(a=1), self=2) %}{{ ns.a }}{{ ns.self }}{{ dict.fromkeys(['x']) }}"
    assert ChatTemplate(source, **SPECIAL_TOKENS).render([]) == "12{'x': None}"


def test_several_threads_may_render_at_once() -> None:
    shared = template("qwen2_5")
    with ThreadPoolExecutor(8) as threads:
        texts = list(threads.map(lambda _: shared.render([USER]), range(64)))
    assert set(texts) == {template("qwen2_5").render([USER])}


def test_jinja_is_imported_only_when_a_template_is_used() -> None:
    program = (
        "import sys; from pagemill.prompts.chat_template import ChatTemplate; import pagemill.pool;"
        "t = ChatTemplate('x', bos_token='', eos_token=''); assert 'jinja2' not in sys.modules;"
        "t.render([]); assert 'jinja2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)})
