"""From the messages or the prompt of a request to token ids that fit its context.

Owns no state. A prompt that does not fit is refused with both lengths, unless the client asks for `truncate`: then
room for the answer is made by dropping the oldest messages of a chat, or tokens of a generate prompt.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pagemill.api.answer_plan import AnswerPlan, plan_answer
from pagemill.api.answer_reader import AnswerReader
from pagemill.api.context_shift import context_shift, opening_length
from pagemill.api.model_defaults import opened
from pagemill.api.ollama.messages import template_messages
from pagemill.api.ollama.requests import ChatRequest, GenerateRequest
from pagemill.api.prompting import (
    check_capabilities,
    check_places,
    encode,
    encode_infill,
    lacks,
    render_messages,
    thinking_variables,
)
from pagemill.api.structured_output import compiled
from pagemill.api.tools import ToolUse
from pagemill.api.truncation import Messages, truncated_length, without_oldest
from pagemill.errors import ContextLengthError, InvalidRequestError
from pagemill.generation import ContextShift, TokenConstraint
from pagemill.ollama_options import Options

if TYPE_CHECKING:
    from pagemill.pool import LoadedModel

ANSWER_MARK = "\N{NULL}ANSWER\N{NULL}"  # stands for an answer whose text is not known, only its tokens


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the engine is given: a prompt that fits, and how long its answer may be."""

    token_ids: tuple[int, ...]
    max_tokens: int | None  # None: as many as an answer that shifts may have
    shift: ContextShift | None = None
    reader: AnswerReader = field(default_factory=AnswerReader)  # of the answer
    shown_special_tokens: frozenset[int] = frozenset()  # by which it goes
    constraint: TokenConstraint | None = None  # on the answer
    end_token_ids: tuple[int, ...] = ()  # that end it, beside those that end any

    def planned(self, plan: AnswerPlan) -> "Prompt":
        """With how its answer is held and read."""
        return replace(
            self,
            reader=plan.reader(),
            constraint=plan.constraint,
            shown_special_tokens=plan.shown_special_tokens,
        )


@dataclass(frozen=True, slots=True)
class Room:
    """How long prompt and answer may be together, in tokens; an answer that `shifts` goes on beyond that."""

    context_length: int
    num_predict: int  # below 0: until the context is full
    num_keep: int
    shifts: bool

    @classmethod
    def of(cls, options: Options, model: "LoadedModel", *, shifts: bool = False) -> "Room":
        length = options.context_length(model.engine.max_model_len)
        return cls(length, options.num_predict, options.num_keep, shifts)

    def holds(self, num_prompt_tokens: int) -> bool:
        """Whether a prompt leaves room for an answer of at least one token (or none, if none is wanted)."""
        return num_prompt_tokens + (self.num_predict != 0) <= self.context_length

    def prompt(self, token_ids: tuple[int, ...], num_opening: int = 0) -> Prompt:
        """The prompt with what it leaves for the answer. If that shifts, the opening stays."""
        wanted = None if self.num_predict < 0 else self.num_predict
        if self.shifts:
            length = self.context_length
            shift = context_shift(self.num_keep, token_ids, num_opening=num_opening, context_length=length)
            return Prompt(token_ids, wanted, shift)
        left = self.context_length - len(token_ids)
        return Prompt(token_ids, left if wanted is None else min(wanted, left))

    def truncated_length(self) -> int:
        """What a prompt is truncated to: it leaves room for the answer, at most half of the context."""
        return truncated_length(self.context_length, self.num_predict if self.num_predict >= 0 else None)

    def too_long(self, num_prompt_tokens: int) -> ContextLengthError:
        return ContextLengthError(
            f"the input length exceeds the context length: the prompt has {num_prompt_tokens} tokens, and the context"
            f" holds {self.context_length}, of which the answer needs at least one; truncate: true drops the oldest",
            param="prompt",
        )


async def chat_prompt(
    body: ChatRequest, options: Options, tool_use: ToolUse, model: "LoadedModel", *, shifts: bool = False
) -> Prompt:
    """The prompt of a chat, whose answer may outgrow its context.

    Raises:
        InvalidRequestError: the model has no chat template, or it refuses the messages, or knows no tools or thinking.
        ContextLengthError: the prompt does not fit.
    """
    template = model.chat_template
    if template is None:
        check_places(model, body.model)
        raise lacks(body.model, "chat", "messages")
    check_capabilities(model, body.model, tools=body.uses_tools, thinking=body.uses_thinking)
    messages = opened(model, template_messages(body.messages or []))
    variables = thinking_variables(body.wants_thinking)
    render = partial(render_messages, model, tools=tool_use.given, template_kwargs=variables)
    text = await render(messages)
    token_ids = await encode(model.tokenizer, text, add_special=False)
    room = Room.of(options, model, shifts=shifts)
    if not room.holds(len(token_ids)):
        if not body.truncate:
            raise room.too_long(len(token_ids))

        def prompt_of(kept: Messages) -> list[int]:
            rendered = template.render(kept, tools=tool_use.given, **variables)
            return model.tokenizer.encode(rendered, add_special=False, parse_special=True)

        token_ids = tuple(await asyncio.to_thread(without_oldest, messages, prompt_of, room.truncated_length()))
        if not room.holds(len(token_ids)):
            raise room.too_long(len(token_ids))
    num_opening = await opening_length(model, messages, token_ids, render) if shifts else 0
    plan = await plan_answer(model, body.output_format(), tool_use, prompt=text)
    return room.prompt(token_ids, num_opening).planned(plan)


async def generate_prompt(
    body: GenerateRequest, options: Options, model: "LoadedModel", *, shifts: bool = False
) -> Prompt:
    """The prompt of a generate request: as it is if raw, else in the model's chat template, after `context` if given.
    With a suffix it asks for the text before that. The answer may outgrow its context, if it `shifts`.

    Raises:
        InvalidRequestError: the context has ids that are no tokens, or the chat template refuses it, or thinking; or
            the model can't fill in.
        ContextLengthError: the prompt does not fit.
    """
    if body.suffix:
        return await _infill_prompt(body, body.suffix, options, model)
    check_capabilities(model, body.model, tools=None, thinking="think" if body.think else None)
    if not body.raw:
        check_places(model, body.model)
    context = _checked(body.context or [], model.tokenizer.vocab_size)
    uses_template = not body.raw and model.chat_template is not None
    if uses_template:
        while context and context[-1] in model.tokenizer.eos_token_ids:  # the template's text begins with it
            context = context[:-1]
        text = await _generate_text(body, model, continues=bool(context))
        token_ids = context + await encode(model.tokenizer, text, add_special=False)
    else:
        text = body.prompt or ""
        token_ids = context + await _encode_raw(body, model, is_first=not context)
    room = Room.of(options, model, shifts=shifts)
    if not room.holds(len(token_ids)):
        if not body.truncate:
            raise room.too_long(len(token_ids))
        token_ids = _without_middle(token_ids, room.truncated_length(), options.num_keep)
    if not uses_template:
        return replace(room.prompt(token_ids), constraint=await compiled(model, body.output_format()))
    num_opening = await _generate_opening(body, model, token_ids) if shifts else 0
    plan = await plan_answer(model, body.output_format(), ToolUse(), prompt=text)
    return room.prompt(token_ids, num_opening).planned(plan)


async def _infill_prompt(body: GenerateRequest, suffix: str, options: Options, model: "LoadedModel") -> Prompt:
    parts = await encode_infill(model, body.prompt or "", suffix)
    if parts is None:
        raise lacks(body.model, "insert", "suffix")
    room = Room.of(options, model)
    token_ids = parts.token_ids()
    if not room.holds(len(token_ids)):
        if not body.truncate:
            raise room.too_long(len(token_ids))
        token_ids = parts.token_ids(room.truncated_length())
    constraint = await compiled(model, body.output_format())
    return replace(room.prompt(token_ids), constraint=constraint, end_token_ids=parts.tokens.ends)


def _without_middle(token_ids: tuple[int, ...], length: int, num_keep: int) -> tuple[int, ...]:
    """The first `num_keep` tokens (below 0: as many as possible) and the last ones, `length` in all."""
    num_first = min(num_keep if num_keep >= 0 else length, length - 1)
    return token_ids[:num_first] + token_ids[len(token_ids) - (length - num_first) :]


async def _encode_raw(body: GenerateRequest, model: "LoadedModel", *, is_first: bool) -> tuple[int, ...]:
    tokenizer, prompt = model.tokenizer, body.prompt or ""
    if body.system:
        raise InvalidRequestError(f'"{body.model}" has no chat template, so system has no place', param="system")
    begins_with_bos = tokenizer.bos_token != "" and prompt.startswith(tokenizer.bos_token)
    return await encode(tokenizer, prompt, add_special=is_first and not begins_with_bos)


async def _generate_text(body: GenerateRequest, model: "LoadedModel", *, continues: bool) -> str:
    """The prompt in the model's chat template; `continues`: it comes after a context."""
    messages = _messages(body)
    variables = thinking_variables(body.wants_thinking)
    if not continues:  # else what the model begins with is in the context
        return await render_messages(model, opened(model, messages), template_kwargs=variables)
    before = [{"role": "user", "content": "."}, {"role": "assistant", "content": ANSWER_MARK}]
    text = await render_messages(model, before + messages, template_kwargs=variables)
    _, mark, following = text.rpartition(ANSWER_MARK)
    if not mark:
        message = "context can't be continued: the model's chat template leaves earlier answers out"
        raise InvalidRequestError(message, param="context")
    return following


async def _generate_opening(body: GenerateRequest, model: "LoadedModel", token_ids: tuple[int, ...]) -> int:
    """See `opening_length`. A context has it, too, if the system prompt has not changed since."""
    render = partial(render_messages, model, template_kwargs=thinking_variables(body.wants_thinking))
    return await opening_length(model, opened(model, _messages(body)), token_ids, render)


def _messages(body: GenerateRequest) -> list[dict[str, str]]:
    system = [{"role": "system", "content": body.system}] if body.system else []
    return [*system, {"role": "user", "content": body.prompt or ""}]


def _checked(context: Sequence[int], vocab_size: int) -> tuple[int, ...]:
    for token_id in context:
        if not 0 <= token_id < vocab_size:
            raise InvalidRequestError(f"context has {token_id}, which is not a token of this model", param="context")
    return tuple(context)
