"""Input items: from the wire to what a chat template expects. Owns no state.

An answer comes back as several items (reasoning, a message, calls), which are one message of the assistant's. What
developers say is for templates a system message; those at the beginning are one, since many templates know no more.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pagemill.api.openai.messages import parsed_arguments
from pagemill.api.prompting import thought_fields
from pagemill.api.tools import result_message
from pagemill.api.wire import WireModel, read_part, shown
from pagemill.errors import InvalidRequestError, UnsupportedParameterError
from pagemill.validated import field

ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


class MessageItem(WireModel):
    """What somebody says."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Any]
    id: str | None = None
    status: str | None = None


class FunctionCall(WireModel):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: str = field(min_length=1)
    name: str = field(min_length=1)
    arguments: str
    id: str | None = None
    status: str | None = None


class FunctionCallOutput(WireModel):
    """What came of a call."""

    type: Literal["function_call_output"]
    call_id: str = field(min_length=1)
    output: str | list[Any]
    id: str | None = None
    status: str | None = None


class ReasoningItem(WireModel):
    """What the model thought: as text, or in the form in which it was asked for, or as its own summary."""

    type: Literal["reasoning"]
    content: list[Any] | None = None
    encrypted_content: str | None = None
    summary: list[Any] | None = None
    id: str | None = None
    status: str | None = None


class TextPart(WireModel):
    """A part of a content. Annotations and logprobs are what an answer had beside its text; prompts have no place for
    them.
    """

    type: Literal["input_text", "output_text", "reasoning_text", "summary_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


Item = MessageItem | FunctionCall | FunctionCallOutput | ReasoningItem
ITEMS: Mapping[str, type[Item]] = {
    "message": MessageItem,
    "function_call": FunctionCall,
    "function_call_output": FunctionCallOutput,
    "reasoning": ReasoningItem,
}


def template_messages(instructions: str | None, given: str | Sequence[Any]) -> list[dict[str, Any]]:
    """The messages as the template sees them.

    Raises:
        InvalidRequestError: an item is wrong, or an output is of no call; names the place.
        UnsupportedParameterError: an item or a part is of a kind that is not supported.
    """
    found: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(given, str):
        return [*found, {"role": "user", "content": given}]
    names: dict[str, str] = {}  # of the calls so far, by id
    for index, value in enumerate(given):
        path = f"input[{index}]"
        match _read_item(value, path):
            case MessageItem() as message:
                _add_message(found, ROLES[message.role], _text(message.content, f"{path}.content"))
            case ReasoningItem() as reasoning:
                opened = _assistant_message(found, "content", "tool_calls")
                thoughts = [opened.get("reasoning"), _thought(reasoning, path)]
                opened |= thought_fields("\n".join(filter(None, thoughts)))
            case FunctionCall() as call:
                names[call.call_id] = call.name
                _assistant_message(found).setdefault("tool_calls", []).append(_call(call, path))
            case FunctionCallOutput() as output:
                text = _text(output.output, f"{path}.output")
                found.append(result_message(text, output.call_id, names, f"{path}.call_id"))
    return found


def encrypted(thought: str) -> str:
    """The text in a form that clients hand back unread. There is nobody to hide it from."""
    return base64.b64encode(thought.encode()).decode()


def _read_item(value: Any, path: str) -> Item:
    if not isinstance(value, dict):
        raise InvalidRequestError(f"{path} must be an object, got {shown(value)}", param=path)
    kind = value.get("type", "message")
    if not isinstance(kind, str) or kind not in ITEMS:
        why = ": nothing is stored here" if kind == "item_reference" else f": only {', '.join(ITEMS)}"
        raise UnsupportedParameterError(f"{path}.type {shown(kind)} is not supported{why}", param=f"{path}.type")
    return read_part(value, ITEMS[kind], path)


def _add_message(found: list[dict[str, Any]], role: str, text: str) -> None:
    if role == "assistant":
        _assistant_message(found, "content", "tool_calls")["content"] = text
    elif role == "system" and len(found) == 1 and found[0]["role"] == "system":
        found[0]["content"] += "\n\n" + text
    else:
        found.append({"role": role, "content": text})


def _assistant_message(found: list[dict[str, Any]], *absent: str) -> dict[str, Any]:
    """The last message, if it is the assistant's and has none of these; else a new one."""
    if not found or found[-1]["role"] != "assistant" or any(found[-1].get(name) for name in absent):
        found.append({"role": "assistant", "content": ""})
    return found[-1]


def _text(content: str | Sequence[Any], path: str) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_part_text(part, f"{path}[{index}]") for index, part in enumerate(content))


def _part_text(part: Any, path: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("input_image", "input_file", "input_audio", "refusal"):
        raise UnsupportedParameterError(f"{path}.type {kind!r} is not supported: only text", param=f"{path}.type")
    if not isinstance(part, dict):
        raise InvalidRequestError(f"{path} must be an object, got {shown(part)}", param=path)
    return read_part(part, TextPart, path).text


def _thought(item: ReasoningItem, path: str) -> str:
    if item.content:
        return _text(item.content, f"{path}.content")
    if item.encrypted_content is None:
        return _text(item.summary or [], f"{path}.summary")
    try:
        return base64.b64decode(item.encrypted_content, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        where = f"{path}.encrypted_content"
        raise InvalidRequestError(f"{where} is none that this server gave", param=where) from None


def _call(call: FunctionCall, path: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": parsed_arguments(call.arguments, f"{path}.arguments")}
    return {"id": call.call_id, "type": "function", "function": function}
