"""Messages: from content blocks to what a chat template expects. Owns no state.

Neighbouring messages of one role are one. A result of a tool becomes a message of its own; that it is an error is told
in its text, since templates have no other place for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pagemill.api.anthropic.blocks import (
    OF_ASSISTANT,
    OF_USER,
    TEXT,
    Placed,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    joined_text,
    read_blocks,
)
from pagemill.api.anthropic.requests import Message
from pagemill.api.prompting import thought_fields
from pagemill.api.tools import result_message
from pagemill.errors import InvalidRequestError
from pagemill.prompts.tool_arguments import ToolArguments

KINDS = {"user": OF_USER, "assistant": OF_ASSISTANT, "system": TEXT}


def template_messages(system: str | Sequence[Any] | None, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as the template sees them.

    Raises:
        InvalidRequestError: a block is wrong, or a result is of no call; names the place.
        UnsupportedParameterError: a block is of a kind that is not supported.
    """
    found: list[dict[str, Any]] = []
    if system:
        found.append({"role": "system", "content": joined_text(system, "system")})
    names: dict[str, str] = {}  # of the calls so far, by id
    for role, blocks in _turns(messages):
        if role == "assistant":
            found.append(_assistant_message(blocks, names))
        else:
            found += _other_messages(role, blocks, names)
    return found


def continued_text(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """The text that the answer goes on with, if the last message is the assistant's.

    Raises:
        InvalidRequestError: that message calls tools.
    """
    last = messages[-1]
    if last["role"] != "assistant":
        return None
    if "tool_calls" in last:
        message = "messages: the last one has tool_use blocks; tool_result blocks must follow"
        raise InvalidRequestError(message, param="messages")
    text: str = last["content"]
    return text


def _turns(messages: Sequence[Message]) -> list[tuple[str, list[Placed]]]:
    turns: list[tuple[str, list[Placed]]] = []
    for index, message in enumerate(messages):
        path = f"messages[{index}].content"
        if message.content == [] and message.role != "assistant":
            raise InvalidRequestError(f"{path} must not be empty", param=path)
        blocks = read_blocks(message.content, path, KINDS[message.role])
        if turns and turns[-1][0] == message.role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((message.role, blocks))
    return turns


def _assistant_message(blocks: Sequence[Placed], names: dict[str, str]) -> dict[str, Any]:
    texts, thoughts, calls = [], [], []
    for block, _path in blocks:
        match block:
            case TextBlock():
                texts.append(block.text)
            case ThinkingBlock():
                thoughts.append(block.thinking)
            case ToolUseBlock():
                names[block.id] = block.name
                function = {"name": block.name, "arguments": ToolArguments(block.input)}
                calls.append({"id": block.id, "type": "function", "function": function})
    message: dict[str, Any] = {"role": "assistant", "content": "\n".join(texts)}
    if thoughts:
        message |= thought_fields("\n".join(thoughts))
    return {**message, "tool_calls": calls} if calls else message


def _other_messages(role: str, blocks: Sequence[Placed], names: Mapping[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for block, path in blocks:
        if isinstance(block, ToolResultBlock):
            found.append(_tool_message(block, path, names))
        elif isinstance(block, TextBlock):
            if found and found[-1]["role"] == role:
                found[-1]["content"] += "\n" + block.text
            else:
                found.append({"role": role, "content": block.text})
    return found


def _tool_message(block: ToolResultBlock, path: str, names: Mapping[str, str]) -> dict[str, Any]:
    text = joined_text(block.content or "", f"{path}.content")
    shown = f"Error: {text}" if block.is_error else text
    return result_message(shown, block.tool_use_id, names, f"{path}.tool_use_id")
