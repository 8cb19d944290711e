"""The floor program's web stack: one route on starlette, and uvicorn. Imported while the model loads. Owns no state."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from concurrent.futures import Future

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from load_tests.floor_model import PROMPT, Loaded, next_piece, tokenize
from pagemill.partial_import import bare_package

with bare_package("uvicorn") as package:  # as in `pagemill.cli.http_server`, which says why
    from uvicorn.config import Config
    from uvicorn.server import Server

    package.Config = Config
    import uvicorn.lifespan.off
    import uvicorn.loops.auto
    import uvicorn.loops.uvloop
    import uvicorn.protocols.http.httptools_impl  # noqa: F401


def serve(listener: socket.socket, loaded: "Future[Loaded]") -> None:
    """Until a signal."""

    async def stream(prompt: str, num_tokens: int) -> AsyncIterator[bytes]:
        model = await asyncio.wrap_future(loaded)
        ids = tokenize(model, prompt)
        for _ in range(num_tokens):
            ids, text = await asyncio.to_thread(next_piece, model, ids)
            yield b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"

    async def chat(request: Request) -> StreamingResponse:
        body = await request.json()
        prompt = PROMPT.format(body["messages"][-1]["content"])
        return StreamingResponse(stream(prompt, body["max_tokens"]), media_type="text/event-stream")

    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    config = Config(app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
    Server(config).run(sockets=[listener])
