"""Text completions: prompts in, their continuations out. Owns no state beyond one request."""

from collections.abc import Mapping, Sequence
from typing import Any

from pagemill.api.answer_reader import AnswerReader
from pagemill.api.openai.choice import Choice
from pagemill.api.openai.completion_request import CompletionRequest
from pagemill.api.openai.logprobs import TextLogprobs, joined, prompt_logprobs
from pagemill.api.openai.run import Prompt, Run, prompt_limit
from pagemill.api.prompting import encode, encode_infill
from pagemill.api.structured_output import compiled, without
from pagemill.backends.base import decode
from pagemill.errors import UnsupportedParameterError
from pagemill.generation import Delta, FinishReason, SamplingParams, TokenConstraint, TokenLogprobs
from pagemill.pool import LoadedModel
from pagemill.prompts.message_events import Content, Event


class CompletionAnswer:
    """An `Answer` to a completion request."""

    id_prefix = "cmpl-"
    kind = "text_completion"

    def __init__(self, body: CompletionRequest) -> None:
        self._body = body

    @property
    def has_logprobs(self) -> bool:
        return self._body.logprobs is not None

    def sampling(self, defaults: Mapping[str, Any]) -> SamplingParams:
        """An echo with logprobs needs those of the prompt, too."""
        body = self._body
        wanted = [count for count in (body.prompt_logprobs, body.logprobs if body.echo else None) if count is not None]
        return body.sampling(defaults, logprobs=body.logprobs, prompt_logprobs=max(wanted, default=None))

    def readers(self, run: Run) -> list[AnswerReader]:
        return [AnswerReader() for _ in range(len(run.prompts) * run.n)]

    async def prompts(self, model: LoadedModel) -> list[Prompt]:
        add_special = self._body.add_special_tokens is not False
        constraint = await without(model, self._body.bad_words, await compiled(model, self._body.output_format()))
        if self._body.suffix:
            return [await self._infill(model, text, self._body.suffix, constraint) for text in self._body.prompt]
        prompts = []
        for prompt in self._body.prompt:
            text = prompt if isinstance(prompt, str) else None
            ids = await encode(model.tokenizer, prompt, add_special=add_special) if isinstance(prompt, str) else prompt
            prompts.append(Prompt(ids, text, constraint=constraint))
        return prompts

    async def _infill(self, model: LoadedModel, prefix: str, suffix: str, constraint: TokenConstraint | None) -> Prompt:
        add_special = self._body.add_special_tokens is not False
        parts = await encode_infill(model, prefix, suffix, add_special=add_special)
        if parts is None:
            message = f"suffix is not supported: the model {model.name!r} has no fill-in-the-middle tokens"
            raise UnsupportedParameterError(message, param="suffix")
        limit = prompt_limit(self._body, model)
        return Prompt(parts.token_ids(limit), constraint=constraint, end_token_ids=parts.tokens.ends)

    def choice(self, run: Run, number: int, choice: Choice) -> dict[str, Any]:
        body, prompt = self._body, run.prompts[number // run.n]
        echo = echo_text(run, prompt) if body.echo else ""
        shown: dict[str, Any] = {"text": echo + choice.text, "logprobs": self._logprobs(run, prompt, echo, choice)}
        if body.prompt_logprobs is not None and choice.prompt_logprobs is not None:
            shown["prompt_logprobs"] = prompt_logprobs(
                run.model.tokenizer, choice.prompt_logprobs, body.prompt_logprobs
            )
        if body.return_token_ids:
            shown["prompt_token_ids"] = prompt.token_ids
        return shown

    def rest(self, run: Run, choices: list[Choice]) -> dict[str, Any]:
        return {}

    def style(self, run: Run, readers: Sequence[AnswerReader]) -> "CompletionChunks":
        return CompletionChunks(run, self._body)

    def _logprobs(self, run: Run, prompt: Prompt, echo: str, choice: Choice) -> dict[str, Any] | None:
        writer = text_logprobs(run, self._body)
        if writer is None:
            return None
        parts = []
        if self._body.echo:
            parts.append(writer.of_prompt(echo, prompt.token_ids, choice.prompt_logprobs or ()))
        return joined([*parts, writer.of_output(choice.logprobs)])


class CompletionChunks:
    """A `ChunkStyle`. With `echo` every choice begins with its prompt."""

    chunk_kind = "text_completion"

    def __init__(self, run: Run, body: CompletionRequest) -> None:
        self._run = run
        self._body = body
        self._logprobs = [text_logprobs(run, body) for _ in range(len(run.prompts) * run.n)]

    def opening(self, number: int, delta: Delta) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        body, prompt = self._body, self._run.prompts[number // self._run.n]
        if not body.echo and not body.return_token_ids:
            return []
        echo = echo_text(self._run, prompt) if body.echo else ""
        fields: dict[str, Any] = {"text": echo}
        writer = self._logprobs[number]
        if writer is not None and body.echo:
            fields["logprobs"] = writer.of_prompt(echo, prompt.token_ids, delta.prompt_logprobs or ())
        if body.return_token_ids:
            fields["prompt_token_ids"] = prompt.token_ids
        return [(fields, {})]

    def fields(self, event: Event) -> dict[str, Any]:
        assert isinstance(event, Content), "a completion is all content"
        return {"text": event.text}

    def finish(self) -> dict[str, Any]:
        return {"text": ""}

    def finish_reason(self, number: int, reason: FinishReason) -> str:
        return reason

    def logprobs(self, number: int, entries: Sequence[TokenLogprobs]) -> dict[str, Any] | None:
        writer = self._logprobs[number]
        return None if writer is None else writer.of_output(entries)


def echo_text(run: Run, prompt: Prompt) -> str:
    """The prompt as text: as it was given, or what its tokens say."""
    return decode(run.model.tokenizer, prompt.token_ids) if prompt.text is None else prompt.text


def text_logprobs(run: Run, body: CompletionRequest) -> TextLogprobs | None:
    """A writer of one choice's logprobs, if they were asked for."""
    if body.logprobs is None:
        return None
    skip = body.skip_special_tokens is not False
    return TextLogprobs(run.model.tokenizer, count=body.logprobs, skip_special_tokens=skip)
