"""Readers of the OpenAI dialect's answers."""

import json
from typing import Any

import httpx

HELLO = [{"role": "user", "content": "hi"}]


def events(response: httpx.Response) -> list[str]:
    """The data of all events; the body must be nothing but events."""
    assert response.status_code == 200, response.text
    parts = response.text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") and "\n" not in part for part in parts)
    return [part.removeprefix("data: ") for part in parts]


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    """All chunks of a stream that ended well."""
    data = events(response)
    assert data.pop() == "[DONE]"
    return [json.loads(item) for item in data]


def choices_of(parts: list[dict[str, Any]], index: int = 0) -> list[dict[str, Any]]:
    """What the chunks say of one choice."""
    return [choice for part in parts for choice in part["choices"] if choice["index"] == index]


def joined(parts: list[dict[str, Any]], index: int = 0) -> str:
    """The text of one choice, of a chat or a text completion."""
    return "".join(
        choice["text"] if "text" in choice else choice["delta"].get("content") or ""
        for choice in choices_of(parts, index)
    )


def refusal(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    """The error of a request that was refused."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error
