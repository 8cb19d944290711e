"""Chat completions: messages in, an assistant's message out. Owns no state beyond one request."""

from collections.abc import Sequence
from typing import Any

from pagemill.api.openai.chat_request import ChatCompletionRequest
from pagemill.api.openai.choice import Choice
from pagemill.api.openai.logprobs import chat_logprobs, prompt_logprobs
from pagemill.api.openai.messages import template_messages
from pagemill.api.openai.run import Prompt, Run
from pagemill.api.prompting import encode, render_messages
from pagemill.generation import Delta, SamplingParams, TokenLogprobs
from pagemill.pool import LoadedModel


class ChatAnswer:
    """An `Answer` to a chat request."""

    id_prefix = "chatcmpl-"
    kind = "chat.completion"

    def __init__(self, body: ChatCompletionRequest) -> None:
        """Raises InvalidRequestError if a message is wrong."""
        self._body = body
        self._messages = template_messages(body.messages)

    @property
    def has_logprobs(self) -> bool:
        return bool(self._body.logprobs)

    def sampling(self) -> SamplingParams:
        return self._body.sampling(logprobs=self._body.num_logprobs, prompt_logprobs=self._body.prompt_logprobs)

    async def prompts(self, model: LoadedModel) -> list[Prompt]:
        body = self._body
        continues = bool(body.continue_final_message)
        text = await render_messages(
            model,
            self._messages,
            add_generation_prompt=not continues if body.add_generation_prompt is None else body.add_generation_prompt,
            continue_final_message=continues,
            template_kwargs=body.chat_template_kwargs,
        )
        # The template writes the special tokens, BOS included, so none are added unless the client insists.
        return [Prompt(await encode(model.tokenizer, text, add_special=bool(body.add_special_tokens)))]

    def choice(self, run: Run, number: int, choice: Choice) -> dict[str, Any]:
        logprobs = chat_logprobs(run.model.tokenizer, choice.logprobs) if self.has_logprobs else None
        return {"message": {"role": "assistant", "content": choice.text, "refusal": None}, "logprobs": logprobs}

    def rest(self, run: Run, choices: list[Choice]) -> dict[str, Any]:
        rest: dict[str, Any] = {}
        count, entries = self._body.prompt_logprobs, choices[0].prompt_logprobs
        if count is not None and entries is not None:
            rest["prompt_logprobs"] = prompt_logprobs(run.model.tokenizer, entries, count)
        if self._body.return_token_ids:
            rest["prompt_token_ids"] = run.prompts[0].token_ids
        return rest

    def style(self, run: Run) -> "ChatChunks":
        return ChatChunks(run, self._body)


class ChatChunks:
    """A `ChunkStyle`. Every choice begins with a chunk that names the role."""

    chunk_kind = "chat.completion.chunk"

    def __init__(self, run: Run, body: ChatCompletionRequest) -> None:
        self._tokenizer = run.model.tokenizer
        self._has_logprobs = bool(body.logprobs)
        self._first_rest = {"prompt_token_ids": run.prompts[0].token_ids} if body.return_token_ids else {}

    def opening(self, number: int, delta: Delta) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return [({"delta": {"role": "assistant", "content": ""}}, self._first_rest)]

    def content(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text}}

    def finish(self) -> dict[str, Any]:
        return {"delta": {}}

    def logprobs(self, number: int, entries: Sequence[TokenLogprobs]) -> dict[str, Any] | None:
        return chat_logprobs(self._tokenizer, entries) if self._has_logprobs else None
