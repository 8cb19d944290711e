"""Continuing a conversation by its tokens, with the chat templates of several model families."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagemill.api.ollama.prompt import chat_prompt, generate_prompt
from pagemill.api.ollama.requests import ChatRequest, GenerateRequest, Message
from pagemill.api.tools import ToolUse
from pagemill.backends.base import decode
from pagemill.backends.fake import FakeBackend
from pagemill.engine.engine import Engine
from pagemill.errors import ContextLengthError, InvalidRequestError
from pagemill.ollama_options import Options
from pagemill.pool import LoadedModel
from pagemill.prompts.chat_template import ChatTemplate
from support.hand_driven_loader import reference

TEMPLATES = Path(__file__).parents[2] / "prompts" / "templates"
FAMILIES = ("chatml", "qwen2_5", "llama_3", "mistral", "gemma")


def model_with(source: str, max_model_len: int = 4096) -> LoadedModel:
    backend = FakeBackend(max_model_len=max_model_len)
    template = ChatTemplate(source, bos_token="<|bos|>", eos_token="<|im_end|>")
    return LoadedModel(reference("fake"), Engine(backend), template, datetime.now(UTC), 0.0)


def family(name: str, max_model_len: int = 4096) -> LoadedModel:
    return model_with((TEMPLATES / f"{name}.jinja").read_text(), max_model_len)


async def chat(model: LoadedModel, *texts: str) -> tuple[int, ...]:
    messages = [Message(role=("user", "assistant")[at % 2], content=text) for at, text in enumerate(texts)]
    return (await chat_prompt(ChatRequest(model="fake", messages=messages), Options(), ToolUse(), model)).token_ids


async def generate(model: LoadedModel, prompt: str, context: tuple[int, ...] = ()) -> tuple[int, ...]:
    body = GenerateRequest(model="fake", prompt=prompt, context=list(context))
    return (await generate_prompt(body, Options(), model)).token_ids


@pytest.mark.parametrize("name", FAMILIES)
async def test_continuing_by_tokens_equals_the_whole_chat(name: str) -> None:
    model = family(name)
    first = await generate(model, "one")
    assert first == await chat(model, "one")
    answer = tuple((" answer" if name == "mistral" else "answer").encode())  # Mistral's template puts a space there
    second = await generate(model, "two", first + answer)
    assert second == await chat(model, "one", "answer", "two")
    third = await generate(model, "three", second + answer)
    assert third == await chat(model, "one", "answer", "two", "answer", "three")


async def test_the_end_of_turn_is_not_doubled_if_the_context_has_it() -> None:
    model = family("chatml")
    context = await generate(model, "one") + tuple(b"answer")
    assert await generate(model, "two", (*context, 257)) == await generate(model, "two", context)


async def test_a_template_that_drops_earlier_answers_can_not_be_continued() -> None:
    model = model_with("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}")
    with pytest.raises(InvalidRequestError, match="leaves earlier answers out") as caught:
        await generate(model, "two", (97,))
    assert caught.value.param == "context"


async def test_a_template_without_system_messages_refuses_one_in_its_own_words() -> None:
    body = GenerateRequest(model="fake", prompt="hi", system="Be kind")
    with pytest.raises(InvalidRequestError, match="System role not supported"):
        await generate_prompt(body, Options(), family("gemma"))


@pytest.mark.parametrize("name", ["mistral", "gemma"])
async def test_truncation_leaves_turns_that_strict_templates_take(name: str) -> None:
    model = family(name, max_model_len=200)
    texts = [f"turn {number} " + "x" * 20 for number in range(11)]
    messages = [Message(role=("user", "assistant")[at % 2], content=text) for at, text in enumerate(texts)]
    with pytest.raises(ContextLengthError):
        await chat_prompt(ChatRequest(model="fake", messages=messages), Options(), ToolUse(), model)
    body = ChatRequest(model="fake", messages=messages, truncate=True)
    prompt = await chat_prompt(body, Options(num_predict=20), ToolUse(), model)
    text = decode(model.tokenizer, prompt.token_ids)
    assert text.startswith("<|bos|>")
    assert "turn 10" in text
    assert "turn 0" not in text
    assert len(prompt.token_ids) + 20 <= 200
    assert prompt.max_tokens == 20


async def test_long_prompts_are_truncated_with_few_renderings(monkeypatch: pytest.MonkeyPatch) -> None:
    model = family("chatml", max_model_len=300)
    num_renderings = 0
    render = ChatTemplate.render

    def counted(*args: object, **kwargs: object) -> str:
        nonlocal num_renderings
        num_renderings += 1
        return render(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(ChatTemplate, "render", counted)
    messages = [Message(role="user", content=f"message {number}") for number in range(300)]
    await chat_prompt(ChatRequest(model="fake", messages=messages, truncate=True), Options(), ToolUse(), model)
    assert num_renderings <= 11, "one for the whole, and those of a bisection"
