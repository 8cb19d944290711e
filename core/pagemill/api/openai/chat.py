"""Chat completions: messages in, an assistant's message out. Owns no state beyond one request."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pagemill.api.answer_plan import AnswerPlan, plan_answer
from pagemill.api.answer_reader import AnswerReader
from pagemill.api.context_shift import opening_length
from pagemill.api.model_defaults import opened
from pagemill.api.openai.chat_request import ChatCompletionRequest
from pagemill.api.openai.choice import Choice
from pagemill.api.openai.logprobs import chat_logprobs, prompt_logprobs
from pagemill.api.openai.messages import template_messages
from pagemill.api.openai.run import Prompt, Run
from pagemill.api.prompting import check_capabilities, encode, render_messages, thinking_variables
from pagemill.api.structured_output import without
from pagemill.api.tools import read_tool_use, read_tools
from pagemill.generation import Delta, FinishReason, SamplingParams, TokenLogprobs
from pagemill.pool import LoadedModel
from pagemill.prompts.message_events import Content, Event, Reasoning, ToolCallArguments, ToolCallStart


class ChatAnswer:
    """An `Answer` to a chat request."""

    id_prefix = "chatcmpl-"
    kind = "chat.completion"

    def __init__(self, body: ChatCompletionRequest, *, max_tools: int) -> None:
        """Raises InvalidRequestError if a message or a tool is wrong."""
        self._body = body
        self._messages = template_messages(body.messages)
        tools = read_tools(body.tools, max_tools)
        self._tool_use = read_tool_use(tools, body.tool_choice, body.parallel_tool_calls)
        self._continued = str(self._messages[-1]["content"]) if body.continue_final_message else ""
        self._plan: AnswerPlan | None = None

    @property
    def has_logprobs(self) -> bool:
        return bool(self._body.logprobs)

    def sampling(self, defaults: Mapping[str, Any]) -> SamplingParams:
        body = self._body
        return body.sampling(defaults, logprobs=body.num_logprobs, prompt_logprobs=body.prompt_logprobs)

    async def prompts(self, model: LoadedModel) -> list[Prompt]:
        body, tools = self._body, self._tool_use
        wants_tools = "tools" if tools.tools else None
        wants_thinking = "reasoning_effort" if body.think else None
        check_capabilities(model, body.model or model.name, tools=wants_tools, thinking=wants_thinking)
        continues = bool(body.continue_final_message)
        variables = {**thinking_variables(body.think), **(body.chat_template_kwargs or {})}
        render = partial(render_messages, model, tools=tools.given, template_kwargs=variables)
        messages = opened(model, self._messages)
        text = await render(
            messages,
            add_generation_prompt=not continues if body.add_generation_prompt is None else body.add_generation_prompt,
            continue_final_message=continues,
        )
        # The template writes the special tokens, BOS included, so none are added unless the client insists.
        token_ids = await encode(model.tokenizer, text, add_special=bool(body.add_special_tokens))
        self._plan = await plan_answer(model, body.output_format(), tools, prompt=text, continued=self._continued)
        constraint = await without(model, body.bad_words, self._plan.constraint)
        num_opening = await opening_length(model, messages, token_ids, render) if body.shift else 0
        return [Prompt(token_ids, None, self._plan.shown_special_tokens, constraint, num_opening)]

    def readers(self, run: Run) -> list[AnswerReader]:
        assert self._plan is not None, "the prompts come first"
        shows_reasoning = self._body.include_reasoning is not False
        return [self._plan.reader(shows_reasoning=shows_reasoning) for _ in range(run.n)]

    def choice(self, run: Run, number: int, choice: Choice) -> dict[str, Any]:
        logprobs = chat_logprobs(run.model.tokenizer, choice.logprobs) if self.has_logprobs else None
        content = choice.text if choice.text or not choice.calls else None
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if choice.reasoning:
            message |= reasoning_fields(choice.reasoning)
        if not choice.calls:
            return {"message": message, "logprobs": logprobs}
        message["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": "".join(arguments)}}
            for call_id, name, *arguments in choice.calls
        ]
        assert choice.finish_reason is not None, "a choice is complete"
        return {"message": message, "logprobs": logprobs, "finish_reason": with_calls(choice.finish_reason)}

    def rest(self, run: Run, choices: list[Choice]) -> dict[str, Any]:
        rest: dict[str, Any] = {}
        count, entries = self._body.prompt_logprobs, choices[0].prompt_logprobs
        if count is not None and entries is not None:
            rest["prompt_logprobs"] = prompt_logprobs(run.model.tokenizer, entries, count)
        if self._body.return_token_ids:
            rest["prompt_token_ids"] = run.prompts[0].token_ids
        return rest

    def style(self, run: Run, readers: Sequence[AnswerReader]) -> "ChatChunks":
        return ChatChunks(run, self._body, readers)


class ChatChunks:
    """A `ChunkStyle`. Every choice begins with a chunk that names the role."""

    chunk_kind = "chat.completion.chunk"

    def __init__(self, run: Run, body: ChatCompletionRequest, readers: Sequence[AnswerReader]) -> None:
        self._readers = readers
        self._tokenizer = run.model.tokenizer
        self._has_logprobs = bool(body.logprobs)
        self._first_rest = {"prompt_token_ids": run.prompts[0].token_ids} if body.return_token_ids else {}

    def opening(self, number: int, delta: Delta) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return [({"delta": {"role": "assistant", "content": ""}}, self._first_rest)]

    def fields(self, event: Event) -> dict[str, Any]:
        match event:
            case Content(text):
                return {"delta": {"content": text}}
            case Reasoning(text):
                return {"delta": reasoning_fields(text)}
            case ToolCallStart(index, call_id, name):
                function = {"name": name, "arguments": ""}
                call = {"index": index, "id": call_id, "type": "function", "function": function}
                return {"delta": {"tool_calls": [call]}}
            case ToolCallArguments(index, text):
                return {"delta": {"tool_calls": [{"index": index, "function": {"arguments": text}}]}}

    def finish(self) -> dict[str, Any]:
        return {"delta": {}}

    def finish_reason(self, number: int, reason: FinishReason) -> str:
        return with_calls(reason) if self._readers[number].has_calls else reason

    def logprobs(self, number: int, entries: Sequence[TokenLogprobs]) -> dict[str, Any] | None:
        return chat_logprobs(self._tokenizer, entries) if self._has_logprobs else None


def reasoning_fields(text: str) -> dict[str, str]:
    """The reasoning by its name, and by the older one that many clients read."""
    return {"reasoning": text, "reasoning_content": text}


def with_calls(reason: FinishReason) -> str:
    """The finish reason of a choice that calls tools: one that was cut off stays so."""
    return "tool_calls" if reason is FinishReason.STOP else reason
