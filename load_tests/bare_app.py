"""An ASGI app with no engine behind it, that streams recorded body messages: what HTTP itself costs.

Started by `engine_cost.py` under uvicorn with uvloop and httptools, as Pagemill is. It reads the request's body and
does not parse it; each recorded message is sent as one body message, from bytes that are ready. Two ways:

- paced: it yields to the event loop after each message, so that 64 streams take turns and each token is written to
  its socket when it is its turn. Any server that makes tokens one after another for many streams must do this much, so
  this is the measure that Pagemill is held against.
- burst (`?burst`): it never yields; uvloop then gathers many messages of one stream into one write. No server of
  tokens can do so, since the tokens are not there yet; it is reported as the ceiling of HTTP alone.

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
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for message in messages:
            await send({"type": "http.response.body", "body": message, "more_body": True})
            if paced:
                await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})

    return app
