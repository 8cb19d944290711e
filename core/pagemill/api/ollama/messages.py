"""Chat messages: from Ollama's fields to what chat templates expect.

Owns no state. Ollama's clients need no ids for calls and results, but some templates do: what lacks one gets it here,
the same each time, so that a conversation's prompt stays the same as it grows.
"""

from collections import deque
from typing import Any

from pagemill.api.ollama.requests import Message
from pagemill.api.prompting import thought_fields
from pagemill.prompts.tool_arguments import ToolArguments

CALL_ID_LENGTH = 9  # what Mistral's templates insist on


def template_messages(messages: list[Message]) -> list[dict[str, Any]]:
    """The messages as the template sees them."""
    unanswered: deque[tuple[str, str]] = deque()  # (name, id) of calls without a result so far
    num_calls = 0
    shown = []
    for message in messages:
        fields: dict[str, Any] = {"role": message.role, "content": message.content or ""}
        if message.thinking:
            fields |= thought_fields(message.thinking)
        if message.tool_calls:
            calls = [_call(call, num_calls + position) for position, call in enumerate(message.tool_calls)]
            num_calls += len(calls)
            unanswered = deque((call["function"]["name"], call["id"]) for call in calls)
            fields["tool_calls"] = calls
        if message.role == "tool":
            name, call_id = _answered(unanswered, message)
            fields |= {"name": name, "tool_name": name, "tool_call_id": call_id}
        shown.append(fields)
    return shown


def _call(call: dict[str, Any], number: int) -> dict[str, Any]:
    function = call["function"]
    call_id = call.get("id") or f"call{number:0{CALL_ID_LENGTH - 4}}"
    arguments = ToolArguments(function.get("arguments") or {})
    return {"type": "function", "id": call_id, "function": {"name": function["name"], "arguments": arguments}}


def _answered(unanswered: deque[tuple[str, str]], message: Message) -> tuple[str, str]:
    """Name and id of the call that a result is of: as it says, or the oldest of that name, or the oldest."""
    name, given_id = message.tool_name, message.tool_call_id
    known = next((call for call in unanswered if call[1] == given_id), None)
    known = known or next((call for call in unanswered if call[0] == name), None)
    if known is None and not name and not given_id and unanswered:
        known = unanswered[0]
    if known is not None:
        unanswered.remove(known)
    call_name, call_id = known or ("", "")
    return name or call_name, given_id or call_id
