"""Writes a conversation out as ChatML text, split into what is given and what the model must say.

The same text as `chat_template.jinja` (a test holds the two together); kept in Python because training renders
hundreds of thousands of conversations and needs to know which spans are the assistant's.
"""

import json
from pathlib import Path

from grist.dialogue import Message, Tool

Segment = tuple[str, bool]  # text, whether the model is trained to say it

CHAT_TEMPLATE_PATH = Path(__file__).with_name("chat_template.jinja")

_TOOLS_HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>"
)


def tool_call_text(message: Message) -> str:
    """What the assistant says to make its tool calls: `<tool_call>` blocks joined by newlines."""
    return "\n".join(
        "<tool_call>\n"
        + json.dumps({"name": call["function"]["name"], "arguments": call["function"]["arguments"]}, ensure_ascii=False)
        + "\n</tool_call>"
        for call in message["tool_calls"]
    )


def assistant_text(message: Message) -> str:
    """The exact text the model generates for an assistant message, without the end marker."""
    if not message.get("tool_calls"):
        return str(message["content"])
    call = tool_call_text(message)
    return f"{message['content']}\n{call}" if message["content"] else call


def _system_text(system: str | None, tools: tuple[Tool, ...]) -> str | None:
    if not tools:
        return system
    declared = "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in tools)
    return ("" if system is None else f"{system}\n\n") + _TOOLS_HEAD + declared + _TOOLS_TAIL


def render(messages: list[Message], tools: tuple[Tool, ...]) -> list[Segment]:
    """Split the rendered conversation into segments; a tool message must not follow another tool message."""
    system = messages[0]["content"] if messages and messages[0]["role"] == "system" else None
    head = _system_text(system, tools)
    segments: list[Segment] = [] if head is None else [(f"<|im_start|>system\n{head}<|im_end|>\n", False)]
    for message in messages[0 if system is None else 1 :]:
        if message["role"] == "assistant":
            segments.append(("<|im_start|>assistant\n", False))
            segments.append((assistant_text(message) + "<|im_end|>", True))
            segments.append(("\n", False))
        elif message["role"] == "tool":
            body = f"<tool_response>\n{message['content']}\n</tool_response>"
            segments.append((f"<|im_start|>user\n{body}<|im_end|>\n", False))
        else:
            segments.append((f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n", False))
    return segments
