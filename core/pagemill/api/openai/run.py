"""One HTTP request while it generates: its model leased, its prompts tokenized and checked, its batch open.

`running` is a context manager that owns lease and batch; both end with it, whatever happens inside.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NamedTuple

from starlette.requests import Request

from pagemill.api.context import ApiContext, find_model
from pagemill.api.context_shift import context_shift
from pagemill.api.model_defaults import sampling_of
from pagemill.api.openai.batch import Batch
from pagemill.api.openai.envelope import Envelope, system_fingerprint
from pagemill.api.openai.fields import GenerationFields
from pagemill.api.wire import check_count
from pagemill.errors import ContextLengthError
from pagemill.generation import ContextShift, GenerationRequest, SamplingParams, TokenConstraint
from pagemill.pool import LoadedModel


class Prompt(NamedTuple):
    """A prompt's token ids, and its text (for `echo`) if the client gave a text that is used whole. What reads the
    answer goes by the `shown_special_tokens`.
    """

    token_ids: tuple[int, ...]
    text: str | None = None
    shown_special_tokens: frozenset[int] = frozenset()
    constraint: TokenConstraint | None = None  # on the answer
    num_opening: int = 0  # tokens that stay if the answer outgrows its context
    end_token_ids: tuple[int, ...] = ()  # that end it, beside those that end any


class Run(NamedTuple):
    """What the endpoints read from."""

    model: LoadedModel
    envelope: Envelope
    prompts: list[Prompt]
    n: int
    batch: Batch


PromptsOf = Callable[[LoadedModel], Awaitable[list[Prompt]]]


def begin(context: ApiContext, request: Request, body: GenerationFields) -> str:
    """Check the body's counts and find the model, before anything is loaded or sent; returns the model's name.

    Raises:
        InvalidRequestError, ModelNotFoundError.
    """
    name = find_model(context, request.scope, body.model, body.client_user)
    body.check_limits(context.settings)
    return name


@asynccontextmanager
async def running(
    context: ApiContext,
    name: str,
    response_id: str,
    body: GenerationFields,
    sampling: SamplingParams,
    prompts_of: PromptsOf,
) -> AsyncIterator[Run]:
    """Lease the model, make the prompts and submit them.

    Raises:
        ContextLengthError, InvalidRequestError: a prompt does not fit, or is wrong.
        UnavailableError, ModelLoadError: not now.
    """
    created = int(time.time())
    async with context.pool.lease(name) as model:
        needed = _needed_tokens(body, model)
        prompts = [_truncated(prompt, prompt_limit(body, model)) for prompt in await prompts_of(model)]
        if body.shift:
            most = context.settings.max_shifted_contexts * model.engine.max_model_len
            check_count("max_tokens", needed or 0, most, "max_shifted_contexts")
        for prompt in prompts:
            _check_length(len(prompt.token_ids), needed, model.engine.max_model_len, body)
        requests = [
            GenerationRequest(
                request_id=response_id if len(prompts) == 1 else f"{response_id}-{index}",
                prompt_token_ids=prompt.token_ids,
                sampling=_sampling(sampling, prompt),
                n=body.num_choices,
                priority=body.priority or 0,
                constraint=prompt.constraint,
                shift=_shift(body, prompt),
            )
            for index, prompt in enumerate(prompts)
        ]
        envelope = Envelope(response_id, created, name, system_fingerprint(model))
        with Batch(model.engine, requests) as batch:
            yield Run(model, envelope, prompts, body.num_choices, batch)


def _sampling(sampling: SamplingParams, prompt: Prompt) -> SamplingParams:
    ends = () if sampling.ignore_eos else prompt.end_token_ids
    return replace(
        sampling,
        stop_token_ids=(*sampling.stop_token_ids, *ends),
        shown_special_tokens=prompt.shown_special_tokens,
    )


def _shift(body: GenerationFields, prompt: Prompt) -> ContextShift | None:
    if not body.shift:
        return None
    num_keep = ContextShift().num_keep if body.num_keep is None else body.num_keep
    return context_shift(num_keep, prompt.token_ids, num_opening=prompt.num_opening)


def prompt_limit(body: GenerationFields, model: LoadedModel) -> int | None:
    """How many of its tokens a prompt is to keep; None: all, whether they fit or not."""
    keep = body.truncate_prompt_tokens
    if keep != -1:
        return keep
    needed, length = _needed_tokens(body, model), model.engine.max_model_len
    if needed is None:
        needed = 1
    return max(1, length - (min(needed, length // 2) if body.shift else needed))


def _needed_tokens(body: GenerationFields, model: LoadedModel) -> int | None:
    return body.needed_tokens(sampling_of(model.reference))


def _truncated(prompt: Prompt, keep: int | None) -> Prompt:
    if keep is None or len(prompt.token_ids) <= keep:
        return prompt
    return prompt._replace(token_ids=prompt.token_ids[-keep:], text=None)


def _check_length(num_prompt_tokens: int, max_tokens: int | None, max_model_len: int, body: GenerationFields) -> None:
    """vLLM's words, which clients parse."""
    limit = f"This model's maximum context length is {max_model_len} tokens. However, "
    needed = min(1, 1 if max_tokens is None else max_tokens)  # with max_tokens 0 a prompt may fill the context
    if num_prompt_tokens + needed > max_model_len:
        raise ContextLengthError(
            f"{limit}your prompt contains {num_prompt_tokens} input tokens. "
            f"Please reduce the length of the {body.prompt_field}.",
            param=body.prompt_field,
        )
    if max_tokens is not None and num_prompt_tokens + max_tokens > max_model_len and not body.shift:
        raise ContextLengthError(
            f"{limit}you requested {max_tokens} output tokens and your prompt contains {num_prompt_tokens} input "
            f"tokens, for a total of {num_prompt_tokens + max_tokens} tokens. "
            f"Please reduce max_tokens or the length of the {body.prompt_field}.",
            param="max_tokens",
        )
