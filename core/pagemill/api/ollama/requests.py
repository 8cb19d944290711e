"""The bodies of Ollama's requests, and the checks that need only the body.

Owns no state. Field names are Ollama's (`api/types.go`). A field that is not listed is refused by its name.
"""

from typing import TYPE_CHECKING, Any

from pagemill.api.prompting import lacks
from pagemill.api.wire import WireModel, shown
from pagemill.errors import InvalidRequestError, UnsupportedParameterError
from pagemill.settings import Settings

if TYPE_CHECKING:
    from pagemill.prompts.structured_output.formats import JSONSchema

ROLES = ("system", "user", "assistant", "tool")
THINK_LEVELS = ("high", "medium", "low")


class Message(WireModel):
    """One message of a chat. `content` may be absent, which is the same as empty."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class ModelRequest(WireModel):
    """What generate and chat have in common."""

    model: str = ""
    stream: bool | None = True
    format: Any = None
    keep_alive: str | int | float | None = None
    options: dict[str, Any] | None = None
    think: bool | str | None = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    @property
    def streamed(self) -> bool:
        return self.stream is not False

    @property
    def wants_thinking(self) -> bool | str | None:
        """Whether the model is to think before it answers, perhaps how much; None leaves it to the model."""
        return self.think if self.think != "" else None

    def num_logprobs(self, settings: Settings) -> int | None:
        """How many alternatives each token's logprobs have; None: no logprobs.

        Raises:
            InvalidRequestError: top_logprobs is out of range, or given without logprobs.
        """
        top = self.top_logprobs or 0
        if not 0 <= top <= settings.max_logprobs:
            message = f"top_logprobs must be between 0 and {settings.max_logprobs}, got {top}"
            raise InvalidRequestError(message, param="top_logprobs")
        if self.logprobs:
            return top
        if top:
            raise InvalidRequestError(f"top_logprobs is {top}, but logprobs is not true", param="top_logprobs")
        return None

    def output_format(self) -> "JSONSchema | None":
        """What the content has to look like; None: like anything. Raises InvalidRequestError: the format is none."""
        if self.format in (None, ""):
            return None
        from pagemill.prompts.structured_output.formats import JSON_OBJECT, JSONSchema

        if self.format == "json":
            return JSONSchema(JSON_OBJECT, "format")
        if not isinstance(self.format, dict):
            message = f'invalid format: {shown(self.format)} (must be "json" or a JSON schema)'
            raise InvalidRequestError(message, param="format")
        return JSONSchema.of(self.format, "format")

    def refuse_unsupported(self) -> None:
        """Raises InvalidRequestError for what this server can't do, in Ollama's words where it has them."""
        if isinstance(self.think, str) and self.think not in ("", *THINK_LEVELS):
            message = f'invalid think value: {self.think!r} (must be "high", "medium", "low", true, or false)'
            raise InvalidRequestError(message, param="think")
        self.output_format()

    def shifts(self, settings: Settings) -> bool:
        """Whether the answer may outgrow its context."""
        return settings.context_shift if self.shift is None else self.shift


class GenerateRequest(ModelRequest):
    """POST /api/generate."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[str] | None = None

    def refuse_unsupported(self) -> None:
        """See the base class."""
        if self.raw and (self.template or self.system or self.context):
            raise InvalidRequestError("raw mode does not support template, system, or context", param="raw")
        if self.raw and self.think:
            raise InvalidRequestError("raw mode does not support think", param="think")
        if self.suffix:
            self._check_with_suffix()
        super().refuse_unsupported()
        if self.images:
            raise lacks(self.model, "vision", "images")
        if self.template:
            message = "template is not supported: the model's own chat template is used, or none with raw: true"
            raise UnsupportedParameterError(message, param="template")

    def _check_with_suffix(self) -> None:
        """The text between prompt and suffix is asked for by the model's special tokens alone, without its template."""
        for name in ("raw", "system", "context", "think", "shift"):
            if getattr(self, name):
                raise InvalidRequestError(f"{name} is not supported with a suffix", param=name)

    def shifts(self, settings: Settings) -> bool:
        """See the base class. Without one of its two ends, what is asked for with a suffix makes no sense."""
        return super().shifts(settings) and not self.suffix


class ChatRequest(ModelRequest):
    """POST /api/chat."""

    messages: list[Message] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None  # ours: Ollama has none
    parallel_tool_calls: bool | None = None  # likewise

    @property
    def uses_tools(self) -> str | None:
        """The field that needs a model that knows tools, None if nothing does."""
        if self.tools:
            return "tools"
        for index, message in enumerate(self.messages or ()):
            if message.tool_calls or message.role == "tool":
                return f"messages[{index}]"
        return None

    @property
    def uses_thinking(self) -> str | None:
        """The field that needs a model that thinks, None if nothing does."""
        if self.think:
            return "think"
        thoughts = (index for index, message in enumerate(self.messages or ()) if message.thinking)
        return next((f"messages[{index}].thinking" for index in thoughts), None)

    def refuse_unsupported(self) -> None:
        """See the base class."""
        super().refuse_unsupported()
        for index, message in enumerate(self.messages or ()):
            self._check(message, f"messages[{index}]")

    def _check(self, message: Message, path: str) -> None:
        if message.role not in ROLES:
            raise InvalidRequestError(
                f"{path}.role must be one of {', '.join(ROLES)}, got {message.role!r}", param=path
            )
        if message.images:
            raise lacks(self.model, "vision", f"{path}.images")
        for position, call in enumerate(message.tool_calls or ()):
            _check_call(call, f"{path}.tool_calls[{position}]")


class ShowRequest(WireModel):
    """POST /api/show. `name` is the older name of `model`."""

    model: str = ""
    name: str = ""
    verbose: bool | None = None


def _check_call(call: dict[str, Any], path: str) -> None:
    function = call.get("function")
    if not isinstance(function, dict):
        raise InvalidRequestError(f"{path}.function must be an object, got {shown(function)}", param=f"{path}.function")
    for name, kind, rule in (("name", str, "a string"), ("arguments", dict | None, "an object")):
        if not isinstance(function.get(name), kind):
            message = f"{path}.function.{name} must be {rule}, got {shown(function.get(name))}"
            raise InvalidRequestError(message, param=f"{path}.function.{name}")
