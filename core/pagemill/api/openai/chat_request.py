"""The body of `POST /v1/chat/completions`.

Owns no state. Fields of features that this version lacks (audio) are accepted only with the values that ask for
nothing.
"""

from typing import Annotated, Any, ClassVar, Literal

from pagemill.api.openai.fields import GenerationFields
from pagemill.api.openai.messages import Message
from pagemill.api.wire import check_count, only
from pagemill.errors import InvalidRequestError
from pagemill.settings import Settings
from pagemill.validated import After

RESERVED_TEMPLATE_NAMES = frozenset(
    {"self", "messages", "tools", "add_generation_prompt", "continue_final_message", "bos_token", "eos_token"}
)


def _template_kwargs(value: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
    for key in value or {}:
        if key in RESERVED_TEMPLATE_NAMES:
            raise InvalidRequestError(f"{name} may not set {key!r}", param=name)
    return value


class ChatCompletionRequest(GenerationFields):
    """A chat, and how to answer it."""

    prompt_field: ClassVar[str] = "messages"

    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, After(_template_kwargs)] = None

    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    store: Annotated[Any, only(None, False)] = None
    metadata: Annotated[Any, only(None, {})] = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None  # what prompts have in common is computed once, whatever its name
    service_tier: Annotated[Any, only(None, "auto", "default")] = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    include_reasoning: bool | None = None
    modalities: Annotated[Any, only(None, ["text"])] = None

    def check_together(self) -> None:
        super().check_together()
        if not self.messages:
            raise InvalidRequestError("messages must not be empty", param="messages")
        if self.add_generation_prompt and self.continue_final_message:
            raise InvalidRequestError(
                "continue_final_message and add_generation_prompt can't both be true", param="continue_final_message"
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequestError("top_logprobs needs logprobs to be true", param="top_logprobs")
        if self.top_logprobs is not None and self.top_logprobs < 0:
            raise InvalidRequestError(f"top_logprobs must be at least 0, got {self.top_logprobs}", param="top_logprobs")
        self._check_max_tokens()

    def _check_max_tokens(self) -> None:
        old, new = self.max_tokens, self.max_completion_tokens
        if old is not None and new is not None and old != new:
            raise InvalidRequestError(
                f"max_tokens ({old}) and max_completion_tokens ({new}) must agree", param="max_completion_tokens"
            )
        for name, value in (("max_completion_tokens", new), ("max_tokens", old)):
            if value is not None and value < 1:
                raise InvalidRequestError(f"{name} must be at least 1, got {value}", param=name)

    @property
    def client_user(self) -> str | None:
        return self.safety_identifier or self.user

    @property
    def num_logprobs(self) -> int | None:
        """How many alternatives each token's logprobs have; None for no logprobs."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def think(self) -> bool | str | None:
        """Whether the model is to think before it answers, perhaps how much; None leaves it to the model."""
        return False if self.reasoning_effort == "none" else self.reasoning_effort

    def max_output_tokens(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def check_limits(self, settings: Settings) -> None:
        super().check_limits(settings)
        check_count("messages", len(self.messages), settings.max_messages, "max_messages")
        check_count("top_logprobs", self.top_logprobs or 0, settings.max_logprobs, "max_logprobs")
