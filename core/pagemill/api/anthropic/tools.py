"""Tools and the choice among them, from Anthropic's fields to those that all dialects share. Owns no state."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pagemill.api.anthropic.blocks import CacheControl
from pagemill.api.tools import Tool, ToolUse, read_function, read_tool_use, read_tools
from pagemill.api.wire import WireModel, only, read_part, shown
from pagemill.errors import InvalidRequestError, UnsupportedParameterError

CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class ToolDeclaration(WireModel):
    """One of `tools`. Arguments are always streamed as the model writes them."""

    type: Any = None
    name: Any = None
    description: Any = None
    input_schema: dict[str, Any]
    strict: Any = None
    cache_control: CacheControl | None = None
    eager_input_streaming: Annotated[Any, only(None, True)] = None


class ToolChoice(WireModel):
    """`tool_choice`."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    def check_together(self) -> None:
        if (self.type == "tool") != (self.name is not None):
            message = f"tool_choice.name goes with type 'tool', and only with it, got {shown(self.name)}"
            raise InvalidRequestError(message, param="tool_choice.name")


def read_use(tools: Sequence[Any] | None, choice: ToolChoice | None, limit: int) -> ToolUse:
    """The tools of a request, and how the model may use them.

    Raises:
        InvalidRequestError: a tool or the choice is wrong; names the place.
        UnsupportedParameterError: a tool is one that Anthropic's servers run.
    """
    read = read_tools(tools, limit, _read_tool)
    if choice is None:
        return read_tool_use(read, None, None)
    named = {"type": "function", "function": {"name": choice.name}}
    return read_tool_use(read, CHOICES.get(choice.type, named), not choice.disable_parallel_tool_use)


def _read_tool(item: Any, path: str) -> Tool:
    if not isinstance(item, dict):
        raise InvalidRequestError(f"{path} must be an object, got {shown(item)}", param=path)
    kind = item.get("type")
    if kind not in (None, "custom"):
        message = f"{path}.type {shown(kind)} is not supported: only 'custom', a tool that the client runs"
        raise UnsupportedParameterError(message, param=f"{path}.type")
    read_part(item, ToolDeclaration, path)
    return read_function(item, path, schema="input_schema")
