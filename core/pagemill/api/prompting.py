"""From messages or text to token ids, for all dialects: short ones at once, long ones off the event loop.

Owns no state. The model's own template and tokenizer do the work; both are safe to call from several threads.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pagemill.backends.base import Tokenizer
from pagemill.errors import InvalidRequestError, UnsupportedParameterError

if TYPE_CHECKING:
    from pagemill.pool import LoadedModel
    from pagemill.prompts.infill import InfillPrompt

OBVIOUS_FIELDS = (
    "messages",
    "tools",
    "think",
    "thinking",
    "suffix",
    "images",
)  # what they need is plain, and Ollama says no more
THOUGHT_NAMES = ("reasoning", "reasoning_content", "thinking")  # each chat template has one of its own for it
LONG_TEXT = 8192  # characters; a thread hop costs about as much as tokenizing a tenth of it


async def encode(tokenizer: Tokenizer, text: str, *, add_special: bool, parse_special: bool = True) -> tuple[int, ...]:
    """Token ids of `text`. Other requests go on while a long one is tokenized."""
    if len(text) < LONG_TEXT:
        return tuple(tokenizer.encode(text, add_special=add_special, parse_special=parse_special))
    return tuple(await asyncio.to_thread(tokenizer.encode, text, add_special=add_special, parse_special=parse_special))


async def encode_infill(
    model: "LoadedModel", prefix: str, suffix: str, *, add_special: bool = True
) -> "InfillPrompt | None":
    """What a prompt for the text between the two is made of; None: the model has no tokens to fill in the middle."""
    from pagemill.prompts.infill import infill_prompt

    tokenizer = model.tokenizer
    tokens = tokenizer.infill_tokens
    if tokens is None:
        return None
    make = partial(infill_prompt, tokenizer, tokens, prefix, suffix, add_special=add_special)
    return make() if len(prefix) + len(suffix) < LONG_TEXT else await asyncio.to_thread(make)


async def render_messages(
    model: "LoadedModel",
    messages: Sequence[Mapping[str, object]],
    *,
    tools: Sequence[Mapping[str, object]] | None = None,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    template_kwargs: Mapping[str, Any] | None = None,
) -> str:
    """The prompt text that the model's chat template makes of the messages.

    Raises:
        InvalidRequestError: the model has no chat template, or the template refuses the messages.
    """
    template = model.chat_template
    if model.embeds:
        raise UnsupportedParameterError(f'"{model.name}" does not support chat', param="model")
    if template is None:
        check_places(model, model.name)
        raise InvalidRequestError(
            f"The model {model.name!r} has no chat template; use completions, or start the server with --chat-template."
        )

    def render() -> str:
        return template.render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            **(template_kwargs or {}),
        )

    num_characters = sum(len(str(message.get("content") or "")) for message in messages)
    return render() if num_characters < LONG_TEXT else await asyncio.to_thread(render)


def check_places(model: "LoadedModel", name: str) -> None:
    """Raises UnsupportedParameterError if the model was given what only a chat template has a place for, but none."""
    unplaced = "" if model.reference.defaults is None else model.reference.defaults.without_place()
    if model.chat_template is None and unplaced:
        raise UnsupportedParameterError(
            f'"{name}" does not support chat: its GGUF file has no chat template, so {unplaced} can\'t be used; send'
            " raw prompts, or start the server with --chat-template",
            param="model",
        )


def thinking_variables(think: bool | str | None) -> dict[str, Any]:
    """What a chat template is told of thinking: None is nothing, a text a level, which is also yes. Templates name the
    switch either way.
    """
    if think is None:
        return {}
    switch = {"enable_thinking": bool(think), "thinking": bool(think)}
    return {**switch, "reasoning_effort": think} if isinstance(think, str) else switch


def thought_fields(thought: object) -> dict[str, object]:
    """What an assistant thought, as fields of its message for a chat template."""
    return dict.fromkeys(THOUGHT_NAMES, thought)


def check_capabilities(model: "LoadedModel", name: str, *, tools: str | None, thinking: str | None) -> None:
    """Raises UnsupportedParameterError if a field asks for tools, or for thinking, and the model's template has no
    place for it. The fields are None if they ask for nothing.
    """
    template = model.chat_template
    known = None if template is None else template.message_format
    if tools is not None and (known is None or known.tools is None):
        raise lacks(name, "tools", tools)
    if thinking is not None and (known is None or known.reasoning is None):
        raise lacks(name, "thinking", thinking)


def lacks(model: str, capability: str, param: str) -> UnsupportedParameterError:
    """Ollama's words for a model that can't do something, and which field asks for it unless its name says so."""
    asks = "" if param in OBVIOUS_FIELDS else f", which {param} asks for"
    return UnsupportedParameterError(f'"{model}" does not support {capability}{asks}', param=param)
