"""Tools and the choice among them, from the shapes of `/v1/responses` to those that all share. Owns no state."""

from collections.abc import Sequence
from typing import Any

from pagemill.api.tools import Tool, ToolUse, check_kind, read_function, read_tool_use, read_tools
from pagemill.api.wire import shown
from pagemill.errors import InvalidRequestError, UnsupportedParameterError

FIELDS = frozenset({"type", "name", "description", "parameters", "strict"})


def read_use(tools: Sequence[Any] | None, choice: Any, parallel: bool | None, limit: int) -> ToolUse:
    """The tools of a request, and how the model may use them.

    Raises:
        InvalidRequestError: a tool or the choice is wrong; names the place.
        UnsupportedParameterError: a tool is one that OpenAI's servers run.
    """
    read = read_tools(tools, limit, _read_tool)
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "allowed_tools":
        return read_tool_use(_allowed(read, choice.get("tools")), choice.get("mode"), parallel)
    if kind == "function":
        choice = {"type": "function", "function": {"name": choice.get("name")}}
    elif kind is not None:
        raise UnsupportedParameterError(
            f"tool_choice.type {shown(kind)} is not supported: only function and allowed_tools", param="tool_choice"
        )
    return read_tool_use(read, choice, parallel)


def shown_tools(tools: Sequence[Any] | None) -> list[dict[str, Any]]:
    """The declarations as responses repeat them."""
    names = ("description", "parameters")
    return [
        {
            "type": "function",
            "name": tool["name"],
            **{name: tool.get(name) for name in names},
            "strict": tool.get("strict") is True,
        }
        for tool in tools or ()
    ]


def _read_tool(item: Any, path: str) -> Tool:
    check_kind(item, path)
    for name, value in item.items():
        if name not in FIELDS and value is not None:
            raise UnsupportedParameterError(f"{path}.{name} {shown(value)} is not supported", param=f"{path}.{name}")
    return read_function(item, path)


def _allowed(tools: tuple[Tool, ...], given: Any) -> tuple[Tool, ...]:
    """The tools that may be called: the model is told of no others."""
    names = [item.get("name") for item in given if isinstance(item, dict)] if isinstance(given, list) else []
    known = tuple(tool for tool in tools if tool.name in names)
    if not known or len(known) != len(names):
        message = f"tool_choice.tools must name some of the tools, got {shown(given)}"
        raise InvalidRequestError(message, param="tool_choice.tools")
    return known
