"""How either kind of completion is answered: checked, run, and sent as one object or as a stream of chunks.

Owns no state. What differs between chat and text is an `Answer`, made per request.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from pagemill.api.answer_reader import AnswerReader
from pagemill.api.context import ApiContext, request_id
from pagemill.api.model_defaults import sampling_of
from pagemill.api.openai.choice import Choice
from pagemill.api.openai.chunks import ChunkStyle, ChunkWriter, error_event
from pagemill.api.openai.fields import GenerationFields
from pagemill.api.openai.run import Prompt, Run, begin, running
from pagemill.api.openai.usage import UsageTally
from pagemill.api.streaming import SSE_MEDIA_TYPE, ItemStream, until_disconnect
from pagemill.generation import Delta, SamplingParams
from pagemill.pool import LoadedModel


class Answer(Protocol):
    """One request of a kind: its prompts, and how its choices look."""

    id_prefix: str
    kind: str

    def sampling(self, defaults: Mapping[str, Any]) -> SamplingParams:
        """With those of the model for what the request leaves out."""
        ...

    def readers(self, run: Run) -> list[AnswerReader]:
        """What reads each of the choices, in the order of their numbers."""
        ...

    async def prompts(self, model: LoadedModel) -> list[Prompt]: ...

    def choice(self, run: Run, number: int, choice: Choice) -> dict[str, Any]:
        """A choice of the unstreamed response, without its index; with a finish reason if it is not the engine's."""
        ...

    def rest(self, run: Run, choices: list[Choice]) -> dict[str, Any]:
        """Further fields of the unstreamed response."""
        ...

    def style(self, run: Run, readers: Sequence[AnswerReader]) -> ChunkStyle: ...

    @property
    def has_logprobs(self) -> bool: ...


async def respond(context: ApiContext, request: Request, body: GenerationFields, answer: Answer) -> ASGIApp:
    """The response. Everything that can be wrong with the request is raised before it starts."""
    name = begin(context, request, body)
    response_id = answer.id_prefix + (body.request_id or request_id(request.scope))
    sampling = answer.sampling(sampling_of(context.pool.find(name)))
    run = running(context, name, response_id, body, sampling, answer.prompts)
    if body.stream:
        return ItemStream(_stream(run, body, answer), media_type=SSE_MEDIA_TYPE, render_error=error_event)
    return JSONResponse(await until_disconnect(_complete(run, body, answer), request.receive))


async def _stream(
    starting: AbstractAsyncContextManager[Run], body: GenerationFields, answer: Answer
) -> AsyncGenerator[bytes, None]:
    async with starting as run:
        readers = answer.readers(run)
        writer = ChunkWriter(
            run.envelope,
            answer.style(run, readers),
            _tally(run),
            num_choices=len(run.prompts) * run.n,
            plain=not answer.has_logprobs,
            usage=body.wants_usage,
            continuous_usage=body.wants_continuous_usage,
            token_ids=bool(body.return_token_ids),
        )
        async for number, delta in run.batch:
            item = _write(writer, readers[number], number, delta)
            while (ready := run.batch.next_ready()) is not None:  # a client that lags behind gets them in one write
                number, delta = ready
                item += _write(writer, readers[number], number, delta)
            if item:
                yield item
        yield writer.end()


def _write(writer: ChunkWriter, reader: AnswerReader, number: int, delta: Delta) -> bytes:
    events = reader.read(delta)
    return writer.write(number, delta, events, num_reasoning_tokens=reader.num_reasoning_tokens)


async def _complete(
    starting: AbstractAsyncContextManager[Run], body: GenerationFields, answer: Answer
) -> dict[str, Any]:
    async with starting as run:
        choices = [Choice() for _ in range(len(run.prompts) * run.n)]
        readers = answer.readers(run)
        tally = _tally(run)
        async for number, delta in run.batch:
            choices[number].add(delta, readers[number].read(delta))
            tally.update(number, delta.usage, readers[number].num_reasoning_tokens)
        shown = [_choice(run, body, answer, number, choice) for number, choice in enumerate(choices)]
        return run.envelope.wrap(answer.kind, shown, usage=tally.total(), **answer.rest(run, choices))


def _choice(run: Run, body: GenerationFields, answer: Answer, number: int, choice: Choice) -> dict[str, Any]:
    shown = {
        "index": number,
        "finish_reason": choice.finish_reason,
        **answer.choice(run, number, choice),
        "stop_reason": choice.stop_reason,
    }
    return {**shown, "token_ids": choice.token_ids} if body.return_token_ids else shown


def _tally(run: Run) -> UsageTally:
    return UsageTally([len(prompt.token_ids) for prompt in run.prompts], run.n)
