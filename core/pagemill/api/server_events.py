"""Server-sent events: how streams are written in all dialects that are not Ollama's. Owns no state."""

import json
from collections.abc import Iterable, Mapping
from typing import Any


def sse(data: Mapping[str, Any]) -> bytes:
    """One event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n\n"


def named_sse(events: Iterable[Mapping[str, Any]]) -> bytes:
    """Events that are named by their type."""
    return b"".join(b"event: " + data["type"].encode() + b"\n" + sse(data) for data in events)
