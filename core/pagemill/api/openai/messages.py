"""Chat messages: from the wire to what a chat template expects.

Owns no state. Content may be a string or a list of text parts, which mean the same. Roles and further fields are the
template's business: they pass as they are, but for nulls (which mean absent) and for the arguments of tool calls
(a JSON string in this dialect, an object for templates). What an assistant thought goes by all names there are.
"""

import json
from typing import Any

from pagemill.api.prompting import THOUGHT_NAMES, thought_fields
from pagemill.api.wire import WireModel, shown
from pagemill.errors import InvalidRequestError, UnsupportedParameterError
from pagemill.prompts.tool_arguments import ToolArguments
from pagemill.validated import field


class Message(WireModel):
    """One message. Fields that are not named here pass to the template."""

    unknown_fields = "allow"

    role: str = field(min_length=1)
    content: str | list[dict[str, Any]] | None = None


def template_messages(messages: list[Message]) -> list[dict[str, object]]:
    """The messages as the template sees them.

    Raises:
        InvalidRequestError: content is missing, or a tool call's arguments are no JSON object.
        UnsupportedParameterError: a part of the content is not text.
    """
    return [_template_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _template_message(message: Message, path: str) -> dict[str, object]:
    extra = {name: value for name, value in message.further_fields.items() if value is not None}
    if message.content is None and message.role != "assistant":
        raise InvalidRequestError(f"{path}.content is required", param=f"{path}.content")
    thought = next((extra[name] for name in THOUGHT_NAMES if name in extra), None)
    if thought is not None:
        extra |= thought_fields(thought)
    if "tool_calls" in extra:
        extra["tool_calls"] = _tool_calls(extra["tool_calls"], f"{path}.tool_calls")
    return {"role": message.role, "content": _text(message.content, f"{path}.content"), **extra}


def _text(content: str | list[dict[str, Any]] | None, path: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "\n".join(_part_text(part, f"{path}[{index}]") for index, part in enumerate(content))


def _part_text(part: dict[str, Any], path: str) -> str:
    kind = part.get("type")
    if kind != "text":
        raise UnsupportedParameterError(
            f"{path}.type {shown(kind)} is not supported: content parts must be text", param=f"{path}.type"
        )
    text = part.get("text")
    if not isinstance(text, str):
        raise InvalidRequestError(f"{path}.text must be a string, got {shown(text)}", param=f"{path}.text")
    return text


def _tool_calls(calls: object, path: str) -> list[object]:
    if not isinstance(calls, list):
        raise InvalidRequestError(f"{path} must be a list, got {shown(calls)}", param=path)
    return [_tool_call(call, f"{path}[{index}]") for index, call in enumerate(calls)]


def _tool_call(call: object, path: str) -> object:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        raise InvalidRequestError(f"{path}.function must be an object, got {shown(function)}", param=f"{path}.function")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = parsed_arguments(arguments, f"{path}.function.arguments")
    elif arguments is None or isinstance(arguments, dict):
        arguments = ToolArguments(arguments or {})
    return {**call, "function": {**function, "arguments": arguments}}


def parsed_arguments(text: str, path: str) -> ToolArguments:
    """The arguments of a call, from the text that they are in this dialect: nothing is none.

    Raises:
        InvalidRequestError: the text is no JSON object; names the path.
    """
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidRequestError(f"{path} must be a JSON object in a string, got {shown(text)}", param=path)
    return ToolArguments(value)
