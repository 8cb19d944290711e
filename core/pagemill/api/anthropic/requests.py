"""The bodies of `POST /v1/messages` and `/v1/messages/count_tokens`. Owns no state."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pagemill.api.anthropic.blocks import CacheControl
from pagemill.api.anthropic.tools import ToolChoice
from pagemill.api.wire import WireModel, check_count, only, shown
from pagemill.errors import InvalidRequestError, ThreadUnsupportedError
from pagemill.generation import SamplingParams
from pagemill.settings import Settings
from pagemill.validated import After, field

if TYPE_CHECKING:
    from pagemill.prompts.structured_output.formats import Source


KEEP_THINKING = {"type": "clear_thinking_20251015", "keep": "all"}  # Claude Code says so: nothing is to be left out


class Message(WireModel):
    """One of `messages`."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class Thinking(WireModel):
    """`thinking`. How much is up to the template: it is told of the budget, and most have no place for it."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = field(None, ge=1024)
    display: Literal["summarized", "omitted"] | None = None

    def check_together(self) -> None:
        if (self.type == "enabled") != (self.budget_tokens is not None):
            message = f"thinking.budget_tokens goes with type 'enabled', and only with it, got {self.budget_tokens}"
            raise InvalidRequestError(message, param="thinking.budget_tokens")


class OutputFormat(WireModel):
    """`output_config.format`."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(WireModel):
    """`output_config`."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Metadata(WireModel):
    """`metadata`."""

    user_id: str | None = None


def _no_thread(value: Any, name: str) -> None:
    if value is not None:
        message = f"{name} {shown(value)} is not supported: no conversation is kept here, so all of it has to be sent"
        raise ThreadUnsupportedError(message, param=name)


class PromptFields(WireModel):
    """What makes a prompt."""

    hints: ClassVar[Mapping[str, str]] = {
        "mcp_servers": "the client has to call them, and give their tools in tools",
        "container": "no code is run here",
    }

    model: str
    messages: list[Message]
    system: str | list[dict[str, Any]] | None = None
    tools: list[Any] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None
    speed: Annotated[Any, only(None, "standard")] = None
    thread: Annotated[Any, After(_no_thread, {"type": "null"})] = None
    context_management: Annotated[Any, only(None, {"edits": []}, {"edits": [KEEP_THINKING]})] = None

    def check_together(self) -> None:
        if not self.messages:
            raise InvalidRequestError("messages must not be empty", param="messages")

    def check_limits(self, settings: Settings) -> None:
        """Raises InvalidRequestError if a count is beyond its setting."""
        check_count("messages", len(self.messages), settings.max_messages, "max_messages")

    @property
    def effort(self) -> str | None:
        return None if self.output_config is None else self.output_config.effort

    @property
    def think(self) -> bool | str | None:
        """Whether the model is to think before it answers, perhaps how much; None leaves it to the model."""
        kind = None if self.thinking is None else self.thinking.type
        if kind == "disabled":
            return False
        return self.effort or (True if kind == "enabled" else None)

    @property
    def thinking_field(self) -> str | None:
        """The field that needs a model that thinks, None if nothing does."""
        if self.thinking is not None and self.thinking.type == "enabled":
            return "thinking"
        return "output_config.effort" if self.think else None

    def output_format(self) -> "Source | None":
        """What the text has to look like; None: like anything."""
        wanted = None if self.output_config is None else self.output_config.format
        if wanted is None:
            return None
        from pagemill.prompts.structured_output.formats import JSONSchema

        return JSONSchema.of(wanted.schema, "output_config.format.schema")


class CountTokensRequest(PromptFields):
    """POST /v1/messages/count_tokens."""


class MessagesRequest(PromptFields):
    """POST /v1/messages."""

    max_tokens: int = field(ge=0)
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = field(None, ge=0, le=1)
    top_k: int | None = field(None, ge=0)
    top_p: float | None = field(None, gt=0, le=1)
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None

    def check_together(self) -> None:
        super().check_together()
        for index, text in enumerate(self.stop_sequences or ()):
            if not text:
                path = f"stop_sequences[{index}]"
                raise InvalidRequestError(f"{path} must not be empty, got {shown(text)}", param=path)
        budget = None if self.thinking is None else self.thinking.budget_tokens
        if budget is not None and budget >= self.max_tokens:
            message = f"thinking.budget_tokens must be below max_tokens ({self.max_tokens}), got {budget}"
            raise InvalidRequestError(message, param="thinking.budget_tokens")

    def check_limits(self, settings: Settings) -> None:
        """See the base class."""
        super().check_limits(settings)
        check_count("stop_sequences", len(self.stop_sequences or ()), settings.max_stop, "max_stop")

    def sampling(self, defaults: Mapping[str, Any]) -> SamplingParams:
        """With the model's `defaults` where it is silent."""
        names = ("max_tokens", "temperature", "top_k", "top_p")
        given: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.stop_sequences is not None:
            given["stop"] = tuple(self.stop_sequences)
        return SamplingParams(**{**defaults, **given})
