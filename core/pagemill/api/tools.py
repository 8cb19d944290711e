"""The tools of a request, and how the model may use them: checked, for all dialects. Owns no state."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pagemill.api.wire import shown
from pagemill.errors import InvalidRequestError, UnsupportedParameterError

NAME = re.compile(r"[A-Za-z0-9_./:-]{1,128}")

Choice = Literal["auto", "none", "required"]


class Tool(NamedTuple):
    """One function. `given` is its declaration in OpenAI's shape, which the chat template shows the model."""

    name: str
    parameters: Mapping[str, Any]
    strict: bool
    given: Mapping[str, Any]
    path: str  # of the function in the request, for errors
    schema_field: str  # where the parameters' schema is in the request


class ToolUse(NamedTuple):
    """The tools that the model is told of, and which it may or must call: "auto", "required", or one's name."""

    tools: tuple[Tool, ...] = ()
    choice: str = "auto"
    is_named: bool = False  # `choice` is a tool's name
    parallel: bool = True  # more than one call in an answer

    @property
    def forced(self) -> bool:
        """Whether the model must call a tool."""
        return self.is_named or self.choice == "required"

    @property
    def callable(self) -> tuple[Tool, ...]:
        """The tools that may be called."""
        return tuple(tool for tool in self.tools if not self.is_named or tool.name == self.choice)

    @property
    def max_calls(self) -> int | None:
        """The most calls in an answer; None: as many as the model likes."""
        return None if self.parallel else 1

    @property
    def schemas(self) -> dict[str, Mapping[str, Any]]:
        """The parameters' schemas by tool name."""
        return {tool.name: tool.parameters for tool in self.tools}

    @property
    def given(self) -> list[Mapping[str, Any]] | None:
        """The declarations for the chat template, None if there are none."""
        return [tool.given for tool in self.tools] or None


def read_tools(
    given: Sequence[Any] | None, limit: int, read: Callable[[Any, str], Tool] | None = None
) -> tuple[Tool, ...]:
    """The tools of a request. `read` makes one of what stands at a path; None: in the shape of chat completions.

    Raises:
        InvalidRequestError: one is wrong, or there are more than the limit; names the place.
        UnsupportedParameterError: one is no function.
    """
    if len(given or ()) > limit:
        raise InvalidRequestError(f"tools: at most {limit} (setting max_tools), got {len(given or ())}", param="tools")
    read_one = read or _read_chat_tool
    tools = tuple(read_one(item, f"tools[{index}]") for index, item in enumerate(given or ()))
    names: dict[str, str] = {}
    for tool in tools:
        if tool.name in names:
            path = f"{tool.path}.name"
            raise InvalidRequestError(f"{path} is {shown(tool.name)}, as is {names[tool.name]}'s", param=path)
        names[tool.name] = tool.path
    return tools


def _read_chat_tool(item: Any, path: str) -> Tool:
    check_kind(item, path)
    function = item.get("function")
    if not isinstance(function, dict):
        raise InvalidRequestError(f"{path}.function must be an object, got {shown(function)}", param=f"{path}.function")
    return read_function(function, f"{path}.function")._replace(given=item)


def check_kind(item: Any, path: str) -> None:
    """Raises InvalidRequestError if that is no object, UnsupportedParameterError if it is a tool but no function."""
    if not isinstance(item, dict):
        raise InvalidRequestError(f"{path} must be an object, got {shown(item)}", param=path)
    kind = item.get("type", "function")
    if kind != "function":
        raise UnsupportedParameterError(
            f"{path}.type {shown(kind)} is not supported: only 'function'", param=f"{path}.type"
        )


def read_function(function: Mapping[str, Any], path: str, *, schema: str = "parameters") -> Tool:
    """The tool that a declaration describes, of whose fields `schema` is what its arguments look like.

    Raises:
        InvalidRequestError: a field is wrong; names it.
    """
    name, schema_field = function.get("name"), f"{path}.{schema}"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        rule = "1 to 128 letters, digits or '_./:-'"
        raise InvalidRequestError(f"{path}.name must be {rule}, got {shown(name)}", param=f"{path}.name")
    for field, kinds, rule in (("description", str, "a string"), ("strict", bool, "true or false")):
        if not isinstance(function.get(field), kinds | None):
            message = f"{path}.{field} must be {rule}, got {shown(function[field])}"
            raise InvalidRequestError(message, param=f"{path}.{field}")
    parameters = _read_parameters(function.get(schema), schema_field)
    described = {"name": name, "description": function.get("description") or "", "parameters": parameters}
    given = {"type": "function", "function": described}
    return Tool(name, parameters, function.get("strict") is True, given, path, schema_field)


def _read_parameters(given: Any, path: str) -> Mapping[str, Any]:
    parameters = {} if given is None else given
    if not isinstance(parameters, dict):
        raise InvalidRequestError(f"{path} must be a JSON schema, got {shown(given)}", param=path)
    kind = parameters.get("type", "object")
    if kind != "object":
        message = f"{path}.type must be 'object', since arguments are an object, got {shown(kind)}"
        raise InvalidRequestError(message, param=f"{path}.type")
    properties = parameters.get("properties")
    if properties is not None and not isinstance(properties, dict):
        message = f"{path}.properties must be an object, got {shown(properties)}"
        raise InvalidRequestError(message, param=f"{path}.properties")
    return parameters


def result_message(text: str, call_id: str, names: Mapping[str, str], path: str) -> dict[str, Any]:
    """What came of a call, as chat templates see it. `names` are those of the calls before it, by id.

    Raises:
        InvalidRequestError: there was no such call; names the path of its id.
    """
    name = names.get(call_id)
    if name is None:
        raise InvalidRequestError(f"{path} {shown(call_id)} is of no call before it", param=path)
    return {"role": "tool", "content": text, "tool_call_id": call_id, "name": name, "tool_name": name}


def read_tool_use(tools: tuple[Tool, ...], choice: Any, parallel: bool | None) -> ToolUse:
    """What `tool_choice` and `parallel_tool_calls` say of the tools. With the choice "none" the model is not even told
    of them: only so is it certain that it calls none.

    Raises:
        InvalidRequestError: the choice is none that there is, or does not fit the tools.
    """
    if choice == "none" or (choice is None and not tools):
        return ToolUse()
    if not tools:
        raise InvalidRequestError(f"tool_choice {shown(choice)} needs tools, and there are none", param="tool_choice")
    if choice in (None, "auto", "required"):
        return ToolUse(tools, choice or "auto", parallel=parallel is not False)
    return ToolUse(tools, _chosen_name(choice, tools), is_named=True, parallel=False)


def _chosen_name(choice: Any, tools: tuple[Tool, ...]) -> str:
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        rule = "'auto', 'none', 'required', or {'type': 'function', 'function': {'name': ...}}"
        raise InvalidRequestError(f"tool_choice must be {rule}, got {shown(choice)}", param="tool_choice")
    if name not in {tool.name for tool in tools}:
        raise InvalidRequestError(f"tool_choice names {shown(name)}, which is not among the tools", param="tool_choice")
    return name
