"""Bodies for the Ollama dialect, and readers of its answers."""

import json
from typing import Any

import httpx

GREEDY = {"temperature": 0}


def question(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "fake", "prompt": text, "options": GREEDY, **fields}


def conversation(*texts: str, **fields: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
    return {"model": "fake", "messages": messages, "options": GREEDY, **fields}


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text[:500]
    assert response.text.endswith("\n")
    return [json.loads(line) for line in response.text.splitlines()]


def error(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    return str(body["error"])


def text_of(line: dict[str, Any]) -> str:
    """What a line of a generated text or a chat says."""
    text = line["response"] if "response" in line else line["message"]["content"]
    return str(text)
