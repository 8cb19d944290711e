"""An ASGI app with no engine behind it, that streams recorded body messages: what HTTP itself costs.

Started by `engine_cost.py` under uvicorn with uvloop and httptools, as Pagemill is. It reads the request's body and
does not parse it; what it sends is bytes that are ready. Three ways, of which the query chooses:

- paced (no query): one message for each token, and a turn of the event loop between messages, so that 64 streams
  alternate and each token is written to its socket when its turn comes. A server whose tokens come one after another
  for many streams must do this much, so this is the measure that Pagemill is held against.
- `merge=K`: the same, with K tokens to a message. Pagemill merges tokens that are ready by the time a stream's turn
  comes, as they are when the backend costs nothing; this is the app that merges as much.
- `burst`: one message for each token and never a turn for others; uvloop then gathers many messages of one stream in
  one write. No server of tokens can do so, since the tokens are not there yet: the ceiling of HTTP alone.

State: the recording, read once by the factory.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

RECORDING_VARIABLE = "LOAD_TESTS_RECORDING"


def write_recording(path: Path, headers: list[tuple[str, str]], messages: list[bytes]) -> None:
    """For `create_app` to read."""
    path.write_text(json.dumps({"headers": headers, "messages": [message.decode() for message in messages]}))


def create_app() -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The app that replays the recording named by the environment variable."""
    recording = json.loads(Path(os.environ[RECORDING_VARIABLE]).read_text())
    headers = [(name.encode(), value.encode()) for name, value in recording["headers"]]
    messages = [message.encode() for message in recording["messages"]]
    merged = {1: messages}  # by tokens to a message, made when first asked for

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"scope type {scope['type']!r}; start uvicorn with --lifespan off")
        while (await receive()).get("more_body"):
            pass
        if scope["method"] == "GET":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
            return
        paced = scope["query_string"] != b"burst"
        width = int(scope["query_string"].removeprefix(b"merge=")) if scope["query_string"].startswith(b"merge=") else 1
        if width not in merged:
            merged[width] = [b"".join(messages[i : i + width]) for i in range(0, len(messages), width)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for message in merged[width]:
            await send({"type": "http.response.body", "body": message, "more_body": True})
            if paced:
                await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})

    return app
