"""The body of `POST /v1/responses`. Owns no state. Of vLLM's further fields it has those that choose tokens."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pagemill.api.openai.fields import StreamOptions
from pagemill.api.openai.output_format import json_object, json_schema
from pagemill.api.wire import WireModel, check_count, only, shown
from pagemill.errors import InvalidRequestError, UnsupportedParameterError
from pagemill.generation import SamplingParams
from pagemill.settings import Settings
from pagemill.validated import field

if TYPE_CHECKING:
    from pagemill.prompts.structured_output.formats import JSONSchema

UNKEPT = {"store": "nothing is stored", "background": "nothing is stored: keep the connection, or stream"}
LOGPROBS, ENCRYPTED_REASONING = "message.output_text.logprobs", "reasoning.encrypted_content"
PENALTIES = ("presence_penalty", "frequency_penalty", "repetition_penalty")


class Reasoning(WireModel):
    """`reasoning`. A summary of it is all of it: nobody is there to sum up."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: Literal["auto", "detailed"] | None = None


class TextFormat(WireModel):
    """`text.format`. With `strict` or without, the schema is held to."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: Any = None
    strict: bool | None = None
    description: str | None = None


class TextConfig(WireModel):
    """`text`."""

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class ResponsesRequest(WireModel):
    """A conversation, and how to answer it."""

    hints: ClassVar[Mapping[str, str]] = {
        "previous_response_id": "nothing is stored: send the conversation in input",
        "conversation": "nothing is stored: send the conversation in input",
        "prompt": "nothing is stored: send its text in instructions and input",
        "max_tool_calls": "no tools are run here",
    }

    input: str | list[Any]
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: int | None = field(None, ge=1)
    temperature: float | None = field(None, ge=0, le=2)
    top_p: float | None = None
    top_logprobs: int | None = field(None, ge=0)
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None  # what prompts have in common is computed once, whatever its name
    service_tier: Annotated[Any, only(None, "auto", "default")] = None
    store: bool | None = None
    background: bool | None = None

    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: list[str] | None = None

    def check_together(self) -> None:
        if not self.input:
            raise InvalidRequestError("input must not be empty", param="input")
        for name, why in UNKEPT.items():
            if getattr(self, name):
                raise UnsupportedParameterError(f"{name} true is not supported: {why}", param=name)
        if self.stream_options is not None and not self.stream:
            raise InvalidRequestError("stream_options is only allowed when stream is true", param="stream_options")
        for index, name in enumerate(self.include or ()):
            if name not in (LOGPROBS, ENCRYPTED_REASONING):
                path = f"include[{index}]"
                raise UnsupportedParameterError(f"{path} {shown(name)} is not supported", param=path)
        if self.top_logprobs is not None and not self.has_logprobs:
            raise InvalidRequestError(f"top_logprobs needs {LOGPROBS} in include", param="top_logprobs")
        self.output_format()

    def check_limits(self, settings: Settings) -> None:
        """Raises InvalidRequestError if a count is beyond its setting."""
        if not isinstance(self.input, str):
            check_count("input", len(self.input), settings.max_messages, "max_messages")
        check_count("stop", len(self.stop or ()), settings.max_stop, "max_stop")
        check_count("top_logprobs", self.top_logprobs or 0, settings.max_logprobs, "max_logprobs")

    @property
    def has_logprobs(self) -> bool:
        return LOGPROBS in (self.include or ())

    @property
    def encrypts_reasoning(self) -> bool:
        return ENCRYPTED_REASONING in (self.include or ())

    @property
    def sums_up(self) -> bool:
        """Whether reasoning is shown as its own summary."""
        return self.reasoning is not None and self.reasoning.summary is not None

    @property
    def think(self) -> bool | str | None:
        """Whether the model is to think before it answers, perhaps how much; None leaves it to the model."""
        effort = None if self.reasoning is None else self.reasoning.effort
        return False if effort == "none" else effort

    def output_format(self) -> "JSONSchema | None":
        """What the text has to look like; None: like anything. Raises InvalidRequestError: the format is wrong."""
        wanted = None if self.text is None else self.text.format
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_object":
            return json_object("text.format")
        return json_schema(wanted.schema, "text.format.schema")

    def sampling(self, defaults: Mapping[str, Any]) -> SamplingParams:
        """With the model's `defaults` where it is silent. Raises InvalidRequestError: a value is out of its range."""
        names = ("temperature", "top_p", "top_k", "min_p", "seed", *PENALTIES)
        given: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.max_output_tokens is not None:
            given["max_tokens"] = self.max_output_tokens
        if self.stop is not None:
            given["stop"] = tuple(self.stop)
        logprobs = (self.top_logprobs or 0) if self.has_logprobs else None
        return SamplingParams(logprobs=logprobs, **{**defaults, **given})
