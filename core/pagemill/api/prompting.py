"""From messages or text to token ids, for all dialects: short ones at once, long ones off the event loop.

Owns no state. The model's own template and tokenizer do the work; both are safe to call from several threads.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pagemill.backends.base import Tokenizer
from pagemill.errors import InvalidRequestError

if TYPE_CHECKING:
    from pagemill.pool import LoadedModel

LONG_TEXT = 8192  # characters; a thread hop costs about as much as tokenizing a tenth of it


async def encode(tokenizer: Tokenizer, text: str, *, add_special: bool, parse_special: bool = True) -> tuple[int, ...]:
    """Token ids of `text`. Other requests go on while a long one is tokenized."""
    if len(text) < LONG_TEXT:
        return tuple(tokenizer.encode(text, add_special=add_special, parse_special=parse_special))
    return tuple(await asyncio.to_thread(tokenizer.encode, text, add_special=add_special, parse_special=parse_special))


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
    if template is None:
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
