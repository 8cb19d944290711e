"""One answer to one chat, for the dialects that give no more: checked, run, and sent whole or as named events.

Owns no state: lease and stream are held by `answering`, what is said by the dialect's `AnswerWriter`, made per request.
Knows no dialect.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from pagemill.api.answer_plan import AnswerPlan, plan_answer
from pagemill.api.answer_reader import AnswerReader, check_finish
from pagemill.api.context import ApiContext
from pagemill.api.model_defaults import opened
from pagemill.api.prompting import check_capabilities, encode, render_messages
from pagemill.api.server_events import named_sse
from pagemill.api.streaming import SSE_MEDIA_TYPE, ItemStream, until_disconnect
from pagemill.api.tools import ToolUse
from pagemill.api.truncation import Messages, truncated_length, without_oldest
from pagemill.errors import ContextLengthError, PagemillError
from pagemill.generation import Delta, GenerationRequest, SamplingParams

if TYPE_CHECKING:
    from pagemill.engine.request_stream import RequestStream
    from pagemill.pool import LoadedModel
    from pagemill.prompts.structured_output.formats import Source

ServerEvent = dict[str, Any]  # its `type` is also its name


class Chat(NamedTuple):
    """What an answer is asked for with. Fields that end in `_field` are what errors name."""

    model: str
    messages: Sequence[dict[str, Any]]
    messages_field: str
    tools: ToolUse = ToolUse()
    content: "Source | None" = None  # what it has to look like
    variables: Mapping[str, Any] = {}  # of the chat template
    continued: str | None = None  # the text of the last message, which the answer goes on with
    thinking_field: str | None = None  # asks for a model that thinks
    shows_reasoning: bool = True
    drops_oldest: bool = False  # messages, if they don't fit

    @property
    def tools_field(self) -> str | None:
        """The field that asks for a model that knows tools."""
        if self.tools.tools:
            return "tools"
        uses = any(message["role"] == "tool" or "tool_calls" in message for message in self.messages)
        return self.messages_field if uses else None

    @property
    def rendering(self) -> dict[str, Any]:
        """What a chat template is told beside the messages and the variables."""
        return {
            "tools": self.tools.given,
            "add_generation_prompt": self.continued is None,
            "continue_final_message": self.continued is not None,
        }


class ChatPrompt(NamedTuple):
    """What the engine is given, and how the answer is held and read."""

    token_ids: tuple[int, ...]
    plan: AnswerPlan


class Answering(NamedTuple):
    """An answer on its way."""

    model: "LoadedModel"
    reader: AnswerReader
    stream: "RequestStream"


class AnswerWriter(Protocol):
    """Makes an answer out of deltas, in the words of a dialect."""

    def add(self, answering: Answering, delta: Delta) -> list[ServerEvent]:
        """Take in the next delta; returns the events that tell of it."""
        ...

    def response(self) -> dict[str, Any]:
        """The whole answer, after the last delta."""
        ...

    def failure(self, error: PagemillError) -> list[ServerEvent]:
        """The events that end a stream that fails."""
        ...


async def render_chat(model: "LoadedModel", chat: Chat) -> tuple[str, tuple[int, ...]]:
    """The chat's prompt, as text and as tokens.

    Raises:
        InvalidRequestError: the model or its chat template can't do what the chat asks for.
    """
    check_capabilities(model, chat.model, tools=chat.tools_field, thinking=chat.thinking_field)
    text = await render_messages(model, opened(model, chat.messages), **chat.rendering, template_kwargs=chat.variables)
    return text, await encode(model.tokenizer, text, add_special=False)


async def make_prompt(model: "LoadedModel", chat: Chat, max_tokens: int | None) -> ChatPrompt:
    """A prompt that leaves room for an answer, of at most `max_tokens`.

    Raises:
        InvalidRequestError: as `render_chat`; or a format is wrong.
        ContextLengthError: the prompt does not fit.
    """
    text, token_ids = await render_chat(model, chat)
    limit = model.engine.max_model_len - (0 if max_tokens == 0 else 1)
    if len(token_ids) > limit and chat.drops_oldest:
        token_ids = await asyncio.to_thread(_truncated, model, chat, max_tokens)
    if len(token_ids) > limit:  # in Anthropic's words, which clients look for
        message = f"prompt is too long: {len(token_ids)} tokens > {limit} maximum"
        raise ContextLengthError(message, param=chat.messages_field)
    plan = await plan_answer(model, chat.content, chat.tools, prompt=text, continued=chat.continued or "")
    return ChatPrompt(token_ids, plan)


def _truncated(model: "LoadedModel", chat: Chat, max_tokens: int | None) -> tuple[int, ...]:
    template = model.chat_template
    assert template is not None, "the prompt was rendered"

    def prompt_of(messages: Messages) -> list[int]:
        text = template.render(messages, **chat.rendering, **chat.variables)
        return model.tokenizer.encode(text, add_special=False, parse_special=True)

    limit = truncated_length(model.engine.max_model_len, max_tokens)
    return tuple(without_oldest(opened(model, chat.messages), prompt_of, limit))


@asynccontextmanager
async def answering(
    context: ApiContext, chat: Chat, sampling: SamplingParams, answer_id: str
) -> AsyncIterator[Answering]:
    """Lease the model, make the prompt and submit it.

    Raises:
        What `make_prompt` does; UnavailableError, ModelLoadError: not now.
    """
    async with context.pool.lease(chat.model) as model:
        prompt = await make_prompt(model, chat, sampling.max_tokens)
        request = GenerationRequest(
            request_id=answer_id,
            prompt_token_ids=prompt.token_ids,
            sampling=replace(sampling, shown_special_tokens=prompt.plan.shown_special_tokens),
            constraint=prompt.plan.constraint,
        )
        reader = prompt.plan.reader(shows_reasoning=chat.shows_reasoning)
        with model.engine.generate(request) as stream:
            yield Answering(model, reader, stream)


async def respond(
    context: ApiContext,
    request: Request,
    chat: Chat,
    sampling: SamplingParams,
    writer: AnswerWriter,
    *,
    answer_id: str,
    streamed: bool,
) -> ASGIApp:
    """The response, streamed or whole. An error before the first token has its status."""
    starting = answering(context, chat, sampling, answer_id)
    if streamed:
        return ItemStream(
            _stream(starting, writer),
            media_type=SSE_MEDIA_TYPE,
            render_error=lambda error: named_sse(writer.failure(error)),
        )
    return JSONResponse(await until_disconnect(_complete(starting, writer), request.receive))


async def _stream(
    starting: AbstractAsyncContextManager[Answering], writer: AnswerWriter
) -> AsyncGenerator[bytes, None]:
    async with starting as running:
        async for delta in running.stream:
            check_finish(delta)
            events = writer.add(running, delta)
            while (ready := running.stream.next_ready()) is not None:  # who lags behind gets all in one write
                events += writer.add(running, ready)
            if events:
                yield named_sse(events)


async def _complete(starting: AbstractAsyncContextManager[Answering], writer: AnswerWriter) -> dict[str, Any]:
    async with starting as running:
        async for delta in running.stream:
            check_finish(delta)
            writer.add(running, delta)
    return writer.response()
