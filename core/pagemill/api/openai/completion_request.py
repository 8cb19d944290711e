"""The body of `POST /v1/completions`.

Owns no state. A prompt is a text, a list of texts, a list of token ids, or a list of those.
"""

from typing import Annotated, Any, ClassVar

from pagemill.api.openai.fields import GenerationFields
from pagemill.api.wire import check_count, shown
from pagemill.errors import InvalidRequestError, UnsupportedParameterError
from pagemill.settings import Settings
from pagemill.validated import After

TOKEN_IDS = {"type": "array", "items": {"type": "integer"}, "minItems": 1}
ONE = ({"type": "string"}, TOKEN_IDS)
PROMPTS = {"anyOf": [*ONE, {"type": "array", "items": {"anyOf": ONE}, "minItems": 1}]}


def _prompts(value: Any, name: str) -> list[str | tuple[int, ...]]:
    """The prompts, one or many, each a text or token ids."""
    if isinstance(value, str):
        return [value]
    if _is_token_ids(value):
        return [tuple(value)]
    if not isinstance(value, list):
        raise _wrong(value, name)
    if not value:
        raise InvalidRequestError(f"{name} must not be empty", param=name)
    return [_prompt(item, f"{name}[{index}]") for index, item in enumerate(value)]


def _prompt(value: Any, path: str) -> str | tuple[int, ...]:
    if isinstance(value, str):
        return value
    if value == []:
        raise InvalidRequestError(f"{path} must not be empty", param="prompt")
    if not _is_token_ids(value):
        raise _wrong(value, path)
    return tuple(value)


def _is_token_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def _wrong(value: Any, path: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{path} must be a string, token ids, or (prompt only) a list of either, got {shown(value)}", param="prompt"
    )


class CompletionRequest(GenerationFields):
    """Texts to continue."""

    default_max_tokens: ClassVar[int | None] = 16  # OpenAI's

    prompt: Annotated[Any, After(_prompts, PROMPTS)]  # list[str | tuple[int, ...]]
    logprobs: int | None = None
    echo: bool | None = None
    suffix: str | None = None  # of every prompt

    def check_together(self) -> None:
        super().check_together()
        if self.logprobs is not None and self.logprobs < 0:
            raise InvalidRequestError(f"logprobs must be at least 0, got {self.logprobs}", param="logprobs")
        if self.suffix:
            self._check_with_suffix()
        elif "" in self.prompt:
            raise InvalidRequestError(f"{self._path(self.prompt.index(''))} must not be empty", param="prompt")

    def _check_with_suffix(self) -> None:
        for name in ("echo", "shift"):
            if getattr(self, name):
                raise UnsupportedParameterError(f"{name} is not supported with a suffix", param=name)
        for index, prompt in enumerate(self.prompt):
            if not isinstance(prompt, str):
                message = f"{self._path(index)} must be a text if there is a suffix, not token ids"
                raise UnsupportedParameterError(message, param="prompt")

    def _path(self, index: int) -> str:
        return f"prompt[{index}]" if len(self.prompt) > 1 else "prompt"

    def check_limits(self, settings: Settings) -> None:
        super().check_limits(settings)
        check_count("prompt", len(self.prompt), settings.max_prompts, "max_prompts")
        check_count("logprobs", self.logprobs or 0, settings.max_logprobs, "max_logprobs")
