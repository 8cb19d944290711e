"""Running a generate or chat request: lease the model, make the prompt, and turn the engine's deltas into lines.

A `Generation` is what one request asks for; a `_Run` owns what has come out so far. The lease and the engine's stream
are held by `async with` and `with` blocks of the generators here, so that closing a generator frees both.
"""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pagemill.api.answer_reader import AnswerReader, WholeCalls, check_finish
from pagemill.api.ollama.lines import Lines, Said, logprobs_json
from pagemill.api.ollama.prompt import Prompt
from pagemill.generation import Delta, FinishReason, GenerationRequest, TokenLogprobs
from pagemill.ollama_options import Options
from pagemill.prompts.message_events import Content, Event, Reasoning

if TYPE_CHECKING:
    from pagemill.engine.request_stream import RequestStream
    from pagemill.pool import LoadedModel, ModelPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What one request asks for. `started` is `time.perf_counter` when it came."""

    request_id: str
    model: str
    keep_alive_s: float | None
    options: Options
    logprobs: int | None
    prompt: "Callable[[LoadedModel], Awaitable[Prompt]]"
    lines: Lines
    gives_context: bool
    started: float


@dataclass(slots=True)
class _Run:
    """One request on its way: its stream, and what came out of it."""

    model: "LoadedModel"
    stream: "RequestStream"
    prompt_token_ids: tuple[int, ...]
    reader: AnswerReader
    load_s: float
    output_token_ids: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    calls: WholeCalls = field(default_factory=WholeCalls)

    def take(self, delta: Delta) -> Said:
        """Note what the delta brings; returns what of it is shown. Raises what it says, if the request failed."""
        check_finish(delta)
        self.output_token_ids += delta.token_ids
        if delta.text:
            self.texts.append(delta.text)
        return self._said(self.reader.read(delta), delta.finish_reason is not None)

    def _said(self, events: Sequence[Event], is_last: bool) -> Said:
        content, thinking, calls = "", "", []
        for event in events:
            match event:
                case Content(text):
                    content += text
                case Reasoning(text):
                    thinking += text
                case _:
                    calls.append(self.calls.add(event))
        if is_last:
            calls.append(self.calls.finish())
        whole = [call for call in calls if call is not None]
        for call in whole:
            if call.arguments_object() is None:  # there is no such call in this dialect: what the model wrote is shown
                content += f'{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {call.arguments}}}'
        return Said(content, thinking, tuple(call for call in whole if call.arguments_object() is not None))

    def shown_logprobs(self, delta: Delta) -> tuple[TokenLogprobs, ...]:
        """The delta's logprobs, without that of the token that ended the answer: it has no text."""
        ended = delta.finish_reason is FinishReason.STOP and bool(delta.logprobs)
        last = delta.logprobs[-1].token_id if ended else None
        if last is not None and (last in self.model.tokenizer.eos_token_ids or last == delta.stop_reason):
            return delta.logprobs[:-1]
        return delta.logprobs

    def context(self, last: Delta) -> list[int]:
        """The conversation so far, without the token that ended the answer (it belongs to what comes next)."""
        tokenizer = self.model.tokenizer
        output = self.output_token_ids
        if isinstance(last.stop_reason, str):  # the stop string is not part of the answer, its tokens must go too
            output = tokenizer.encode("".join(self.texts), add_special=False, parse_special=False)
        elif last.finish_reason is FinishReason.STOP and output and output[-1] in tokenizer.eos_token_ids:
            output = output[:-1]
        return [*self.prompt_token_ids, *output]


async def stream(pool: "ModelPool", generation: Generation) -> AsyncGenerator[bytes, None]:
    """The lines of a streamed response."""
    lines = generation.lines
    async with _running(pool, generation) as run:
        async for delta in run.stream:
            said = run.take(delta)
            line = b""
            logprobs = run.shown_logprobs(delta) if delta.logprobs else ()
            if logprobs:
                line = lines.part(said, logprobs_json(logprobs, run.model.tokenizer))
            elif any(said):
                line = lines.part(said)
            if delta.finish_reason is not None:
                line += lines.last(Said(), _summary(generation, run, delta))
            if line:
                yield line


async def complete(pool: "ModelPool", generation: Generation) -> bytes:
    """The one object of a response that is not streamed."""
    logprobs: list[TokenLogprobs] = []
    said: list[Said] = []
    async with _running(pool, generation) as run:
        last: Delta | None = None
        async for delta in run.stream:
            said.append(run.take(delta))
            logprobs += run.shown_logprobs(delta)
            last = delta
        assert last is not None, "a stream ends with a finish reason"
        as_json = logprobs_json(logprobs, run.model.tokenizer) if logprobs else ""
        whole = Said(
            "".join(part.content for part in said),
            "".join(part.thinking for part in said),
            tuple(call for part in said for call in part.calls),
        )
        return generation.lines.last(whole, _summary(generation, run, last), as_json)


@asynccontextmanager
async def _running(pool: "ModelPool", generation: Generation) -> AsyncIterator[_Run]:
    async with pool.lease(generation.model, generation.keep_alive_s) as model:
        load_s = time.perf_counter() - generation.started
        prompt = await generation.prompt(model)
        sampling = generation.options.sampling(max_tokens=prompt.max_tokens, logprobs=generation.logprobs)
        request = GenerationRequest(
            request_id=generation.request_id,
            prompt_token_ids=prompt.token_ids,
            sampling=replace(
                sampling, stop_token_ids=prompt.end_token_ids, shown_special_tokens=prompt.shown_special_tokens
            ),
            constraint=prompt.constraint,
            shift=prompt.shift,
        )
        with model.engine.generate(request) as engine_stream:
            yield _Run(model, engine_stream, prompt.token_ids, prompt.reader, load_s)


def _summary(generation: Generation, run: _Run, last: Delta) -> dict[str, object]:
    """What the last line says. Durations are in nanoseconds, and never 0: clients divide by them."""
    timings = last.timings
    assert last.finish_reason is not None
    assert timings is not None
    context = {"context": run.context(last)} if generation.gives_context else {}
    return {
        "done_reason": last.finish_reason.value,
        **context,
        "total_duration": _nanoseconds(time.perf_counter() - generation.started),
        "load_duration": _nanoseconds(run.load_s),
        "prompt_eval_count": last.usage.prompt_tokens,
        "prompt_eval_duration": _nanoseconds(timings.prefill_s),
        "eval_count": last.usage.completion_tokens,
        "eval_duration": _nanoseconds(timings.decode_s),
    }


def _nanoseconds(seconds: float) -> int:
    return max(int(seconds * 1e9), 1)
