"""From the messages or the prompt of a request to token ids that fit its context.

Owns no state. A prompt that does not fit is refused with both lengths, unless the client asks for `truncate`: then
room for the answer is made by dropping the oldest messages of a chat, or tokens of a generate prompt.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagemill.api.ollama.options import Options
from pagemill.api.ollama.requests import ChatRequest, GenerateRequest, lacks
from pagemill.api.prompting import encode, render_messages
from pagemill.errors import ContextLengthError, InvalidRequestError

if TYPE_CHECKING:
    from pagemill.pool import LoadedModel

ANSWER_MARK = "\N{NULL}ANSWER\N{NULL}"  # stands for an answer whose text is not known, only its tokens


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the engine is given: a prompt that fits, and how long its answer may be."""

    token_ids: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Room:
    """How long prompt and answer may be together, in tokens."""

    context_length: int
    num_predict: int  # below 0: until the context is full

    @classmethod
    def of(cls, options: Options, model: "LoadedModel") -> "Room":
        return cls(options.context_length(model.engine.max_model_len), options.num_predict)

    def holds(self, num_prompt_tokens: int) -> bool:
        """Whether a prompt leaves room for an answer of at least one token (or none, if none is wanted)."""
        return num_prompt_tokens + (self.num_predict != 0) <= self.context_length

    def prompt(self, token_ids: tuple[int, ...]) -> Prompt:
        """The prompt with what it leaves for the answer."""
        left = self.context_length - len(token_ids)
        return Prompt(token_ids, left if self.num_predict < 0 else min(self.num_predict, left))

    def truncated_length(self) -> int:
        """What a prompt is truncated to: it leaves room for the answer, at most half of the context."""
        wanted = self.num_predict if self.num_predict >= 0 else self.context_length // 4
        return max(1, self.context_length - min(max(wanted, 1), max(self.context_length // 2, 1)))

    def too_long(self, num_prompt_tokens: int) -> ContextLengthError:
        return ContextLengthError(
            f"the input length exceeds the context length: the prompt has {num_prompt_tokens} tokens, and the context"
            f" holds {self.context_length}, of which the answer needs at least one; truncate: true drops the oldest",
            param="prompt",
        )


async def chat_prompt(body: ChatRequest, options: Options, model: "LoadedModel") -> Prompt:
    """The prompt of a chat.

    Raises:
        InvalidRequestError: the model has no chat template, or it refuses the messages.
        ContextLengthError: the prompt does not fit.
    """
    if model.chat_template is None:
        raise lacks(body.model, "chat", "messages")
    messages = [{"role": message.role, "content": message.content or ""} for message in body.messages or ()]
    text = await render_messages(model, messages)
    token_ids = await encode(model.tokenizer, text, add_special=False)
    room = Room.of(options, model)
    if not room.holds(len(token_ids)):
        if not body.truncate:
            raise room.too_long(len(token_ids))
        token_ids = await asyncio.to_thread(_without_oldest, messages, model, room)
    return room.prompt(token_ids)


def _without_oldest(messages: Sequence[dict[str, str]], model: "LoadedModel", room: Room) -> tuple[int, ...]:
    """The prompt with as few as possible of the oldest turns dropped. System messages and the last one always stay.

    What is left starts with a user's message, since many templates insist on that.
    """
    template = model.chat_template
    assert template is not None

    def prompt_from(start: int) -> list[int]:
        kept = [message for index, message in enumerate(messages) if index >= start or message["role"] == "system"]
        return model.tokenizer.encode(template.render(kept), add_special=False, parse_special=True)

    last = len(messages) - 1
    starts = [index for index in range(1, last) if messages[index]["role"] == "user"] + [last]
    limit = room.truncated_length()
    at = bisect_left(starts, True, key=lambda start: len(prompt_from(start)) <= limit)
    token_ids = prompt_from(starts[min(at, len(starts) - 1)])
    if not room.holds(len(token_ids)):
        raise room.too_long(len(token_ids))
    return tuple(token_ids)


async def generate_prompt(body: GenerateRequest, options: Options, model: "LoadedModel") -> Prompt:
    """The prompt of a generate request: as it is if raw, else in the model's chat template, after `context` if given.

    Raises:
        InvalidRequestError: the context has ids that are no tokens, or the chat template refuses the prompt.
        ContextLengthError: the prompt does not fit.
    """
    token_ids = await _generate_token_ids(body, model)
    room = Room.of(options, model)
    if not room.holds(len(token_ids)):
        if not body.truncate:
            raise room.too_long(len(token_ids))
        token_ids = _without_middle(token_ids, room.truncated_length(), options.num_keep)
    return room.prompt(token_ids)


def _without_middle(token_ids: tuple[int, ...], length: int, num_keep: int) -> tuple[int, ...]:
    """The first `num_keep` tokens (below 0: as many as possible) and the last ones, `length` in all."""
    num_first = min(num_keep if num_keep >= 0 else length, length - 1)
    return token_ids[:num_first] + token_ids[len(token_ids) - (length - num_first) :]


async def _generate_token_ids(body: GenerateRequest, model: "LoadedModel") -> tuple[int, ...]:
    tokenizer, prompt = model.tokenizer, body.prompt or ""
    context = _checked(body.context or [], tokenizer.vocab_size)
    if body.raw or model.chat_template is None:
        if body.system:
            raise InvalidRequestError(f'"{body.model}" has no chat template, so system has no place', param="system")
        begins_with_bos = tokenizer.bos_token != "" and prompt.startswith(tokenizer.bos_token)
        return context + await encode(tokenizer, prompt, add_special=not context and not begins_with_bos)
    messages = [{"role": "system", "content": body.system}] if body.system else []
    messages.append({"role": "user", "content": prompt})
    if not context:
        return await encode(tokenizer, await render_messages(model, messages), add_special=False)
    while context and context[-1] in tokenizer.eos_token_ids:  # the template's text begins with the end of the turn
        context = context[:-1]
    return context + await encode(tokenizer, await _next_turn(model, messages), add_special=False)


async def _next_turn(model: "LoadedModel", messages: list[dict[str, str]]) -> str:
    """The text that follows an answer when the conversation goes on with these messages."""
    before = [{"role": "user", "content": "."}, {"role": "assistant", "content": ANSWER_MARK}]
    text = await render_messages(model, before + messages)
    _, mark, following = text.rpartition(ANSWER_MARK)
    if not mark:
        message = "context can't be continued: the model's chat template leaves earlier answers out"
        raise InvalidRequestError(message, param="context")
    return following


def _checked(context: Sequence[int], vocab_size: int) -> tuple[int, ...]:
    for token_id in context:
        if not 0 <= token_id < vocab_size:
            raise InvalidRequestError(f"context has {token_id}, which is not a token of this model", param="context")
    return tuple(context)
