"""The request fields that chat and text completions share: OpenAI's and vLLM's, and how they become `SamplingParams`.

Owns no state. Ranges of sampling values are checked by `SamplingParams` itself; here are checked the wire's own rules
and the limits that are settings. A null is the same as an absent field.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pagemill.api.openai.output_format import ResponseFormat, StructuredOutputs
from pagemill.api.wire import WireModel, check_count, only, shown
from pagemill.errors import InvalidRequestError, UnsupportedParameterError
from pagemill.generation import SamplingParams
from pagemill.settings import Settings
from pagemill.validated import After, Before

if TYPE_CHECKING:
    from pagemill.prompts.structured_output.formats import Source

TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,17}")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
GUIDED = ("json", "regex", "choice", "grammar")
STOP = {"anyOf": [{"type": ["string", "null"]}, {"type": "array", "items": {"type": "string"}}]}


def _as_list(value: object, name: str) -> object:
    return [value] if isinstance(value, str) else value


def _request_id(value: str | None, name: str) -> str | None:
    if value is not None and not REQUEST_ID.fullmatch(value):
        raise InvalidRequestError(f"{name} must be 1 to 128 letters, digits or '._:-', got {shown(value)}", param=name)
    return value


class StreamOptions(WireModel):
    """`stream_options`."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: Annotated[Any, only(None, False)] = None


class GenerationFields(WireModel):
    """What both kinds of completion take. `prompt_field` is the field that the prompt comes from."""

    prompt_field: ClassVar[str] = "prompt"
    default_max_tokens: ClassVar[int | None] = None  # where neither the request nor the model sets a limit
    hints: ClassVar[Mapping[str, str]] = {
        "guided_json_object": "use response_format or structured_outputs.json_object",
        "guided_whitespace_pattern": "white space is bounded; structured_outputs.disable_any_whitespace allows none",
        "guided_decoding_backend": "there is one, llguidance",
    }

    model: str | None = None
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    stop: Annotated[list[str] | None, Before(_as_list, STOP)] = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[int] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    add_special_tokens: bool | None = None
    priority: int | None = None
    prompt_logprobs: int | None = None
    truncate_prompt_tokens: int | None = None
    shift: bool | None = None  # ours, as is the next: Ollama has them
    num_keep: int | None = None
    request_id: Annotated[str | None, After(_request_id)] = None
    return_token_ids: bool | None = None

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Any = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    def check_together(self) -> None:
        if self.stream_options is not None and not self.stream:
            raise InvalidRequestError("stream_options is only allowed when stream is true", param="stream_options")
        if self.best_of is not None and self.best_of != self.num_choices:
            raise UnsupportedParameterError(
                f"best_of {self.best_of} is not supported: it must equal n ({self.num_choices})", param="best_of"
            )
        if self.prompt_logprobs is not None and self.stream:
            raise InvalidRequestError("prompt_logprobs is not available when stream is true", param="prompt_logprobs")
        truncation = self.truncate_prompt_tokens
        if truncation is not None and truncation != -1 and truncation < 1:
            raise InvalidRequestError(
                f"truncate_prompt_tokens must be at least 1, or -1 for as many as fit, got {truncation}",
                param="truncate_prompt_tokens",
            )
        if self.num_keep is not None and (self.num_keep < -1 or not self.shift):
            rule = "at least -1 (all of the prompt)" if self.shift else "left out if shift is not true"
            raise InvalidRequestError(f"num_keep must be {rule}, got {self.num_keep}", param="num_keep")
        for index, word in enumerate(self.bad_words or ()):
            if not word.strip():
                message = f"bad_words[{index}] must have more than white space, got {shown(word)}"
                raise InvalidRequestError(message, param="bad_words")
        self.output_format()

    def output_format(self) -> "Source | None":
        """What the output has to look like; None: like anything.

        Raises:
            InvalidRequestError: a format is wrong as far as can be told without compiling it, or there are several.
        """
        named = None if self.response_format is None else self.response_format.format()
        found = [] if named is None else [named]
        if self.structured_outputs is not None:
            found += self.structured_outputs.formats("structured_outputs.")
        guided = {kind: value for kind in GUIDED if (value := getattr(self, f"guided_{kind}")) is not None}
        if guided:
            found += StructuredOutputs(**guided).formats("guided_")
        if len(found) > 1:
            names = " and ".join(part.field for part in found)
            raise InvalidRequestError(f"only one of these can be given: {names}", param=found[1].field)
        return found[0] if found else None

    @property
    def num_choices(self) -> int:
        """How many choices each prompt gets."""
        return 1 if self.n is None else self.n

    @property
    def client_user(self) -> str | None:
        """Who the client says that its user is, for the log."""
        return self.user

    @property
    def wants_usage(self) -> bool:
        """Whether the stream ends with a usage chunk."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def wants_continuous_usage(self) -> bool:
        """Whether every chunk of the stream carries the usage so far; if not asked for usage, none does, as in vLLM."""
        return self.wants_usage and bool(self.stream_options and self.stream_options.continuous_usage_stats)

    def max_output_tokens(self) -> int | None:
        """The limit on output tokens that the request sets."""
        return self.max_tokens

    def needed_tokens(self, defaults: Mapping[str, Any]) -> int | None:
        """How many output tokens the context must have room for; None: the more it has, the longer they may be."""
        given = self.max_output_tokens()
        return self.default_max_tokens if given is None and "max_tokens" not in defaults else given

    def check_limits(self, settings: Settings) -> None:
        """Raises InvalidRequestError if a count is beyond its setting."""
        check_count("n", self.num_choices, settings.max_n, "max_n")
        check_count("stop", len(self.stop or ()), settings.max_stop, "max_stop")
        check_count("stop_token_ids", len(self.stop_token_ids or ()), settings.max_stop, "max_stop")
        check_count("logit_bias", len(self.logit_bias or ()), settings.max_logit_bias, "max_logit_bias")
        check_count("allowed_token_ids", len(self.allowed_token_ids or ()), settings.max_logit_bias, "max_logit_bias")
        check_count("bad_words", len(self.bad_words or ()), settings.max_logit_bias, "max_logit_bias")
        check_count("prompt_logprobs", self.prompt_logprobs or 0, settings.max_logprobs, "max_logprobs")

    def sampling(
        self, defaults: Mapping[str, Any], *, logprobs: int | None, prompt_logprobs: int | None
    ) -> SamplingParams:
        """With the model's `defaults` where it is silent. Raises InvalidRequestError: a value is out of its range."""
        names = (
            *("min_tokens", "temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "presence_penalty"),
            *("frequency_penalty", "seed", "include_stop_str_in_output", "ignore_eos", "skip_special_tokens"),
        )
        given: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.max_output_tokens() is not None:
            given["max_tokens"] = self.max_output_tokens()
        if self.top_k is not None:
            given["top_k"] = 0 if self.top_k == -1 else self.top_k
        if self.stop is not None:
            given["stop"] = tuple(self.stop)
        return SamplingParams(
            stop_token_ids=tuple(self.stop_token_ids or ()),
            logit_bias=_biases(self.logit_bias or {}),
            allowed_token_ids=None if self.allowed_token_ids is None else tuple(self.allowed_token_ids),
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
            **{"max_tokens": self.default_max_tokens, **defaults, **given},
        )


def _biases(biases: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    wrong = [key for key in biases if not TOKEN_ID.fullmatch(key)]
    if wrong:
        message = f"logit_bias: keys must be token ids, got {shown(', '.join(wrong))}"
        raise InvalidRequestError(message, param="logit_bias")
    return tuple((int(key), bias) for key, bias in biases.items())
