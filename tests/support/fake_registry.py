"""A registry of models as clients see it: manifests, blobs behind a redirect, tokens; and what goes wrong there."""

import asyncio
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from support.registry_models import contents_of, digest_of, manifest_of

RANGE = re.compile(r"bytes=(\d+)-(\d+)")
TOKEN = "a token for everybody"


class FakeRegistry:
    """What goes wrong may be set while it runs; `requests` counts what was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.manifests: dict[str, bytes] = {}  # by NAMESPACE/MODEL:TAG
        self.blobs: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self.ranges: list[tuple[int, int]] = []
        self.wants_token = False
        self.private_token: str | None = None  # without which nobody gets anything
        self.realm = ""  # instead of its own
        self.token = json.dumps({"token": TOKEN}).encode()  # how it answers
        self.answers_whole = False  # whatever range is asked for
        self.statuses: list[int] = []  # that the next requests for blobs are answered with
        self.cuts: list[int] = []  # bytes after which the next answers break off
        self.held_from: int | None = None  # what lies beyond does not come, until it is None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def name(self, model: str = "tiny", tag: str = "latest") -> str:
        return f"{self.host}/library/{model}:{tag}"

    def put(self, gguf: bytes, model: str = "tiny", tag: str = "latest", **others: bytes) -> dict[str, Any]:
        manifest = manifest_of(gguf, **others)
        self.manifests[f"library/{model}:{tag}"] = json.dumps(manifest).encode()
        self.blobs |= {digest_of(content): content for content in contents_of(gguf, **others)}
        return manifest

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v2/{name:path}/manifests/{tag}", self._manifest),
                Route("/v2/{name:path}/blobs/{digest}", self._blob),
                Route("/elsewhere/{digest}", self._content),
                Route("/token", self._token),
            ]
        )

    async def _manifest(self, request: Request) -> Response:
        self.requests["manifest"] += 1
        if (refused := self._refusal(request)) is not None:
            return refused
        content = self.manifests.get("{name}:{tag}".format(**request.path_params))
        if content is None:
            return JSONResponse({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status_code=404)
        return Response(content, media_type="application/vnd.docker.distribution.manifest.v2+json")

    async def _blob(self, request: Request) -> Response:
        self.requests["blob"] += 1
        if (refused := self._refusal(request)) is not None:
            return refused
        if self.statuses:
            return Response(status_code=self.statuses.pop(0))
        # As registries do: to storage of another name, which must not be shown the token.
        return RedirectResponse(f"http://localhost:{self.port}/elsewhere/{request.path_params['digest']}")

    async def _content(self, request: Request) -> Response:
        self.requests["content"] += 1
        assert "authorization" not in request.headers
        content = self.blobs.get(request.path_params["digest"])
        if content is None:
            return Response(status_code=404)
        asked = RANGE.fullmatch(request.headers.get("range", ""))
        if asked is None or self.answers_whole:
            return Response(content)
        start, end = int(asked[1]), int(asked[2]) + 1
        self.ranges.append((start, end))
        headers = {"content-range": f"bytes {start}-{end - 1}/{len(content)}", "content-length": str(end - start)}
        return StreamingResponse(self._pieces(content[start:end], start), status_code=206, headers=headers)

    async def _pieces(self, content: bytes, start: int) -> AsyncIterator[bytes]:
        cut = self.cuts.pop(0) if self.cuts else len(content)
        half = len(content) // 2
        yield content[: min(cut, half)]
        while self.held_from is not None and start + half > self.held_from:  # noqa: ASYNC110  # set by another thread
            await asyncio.sleep(0.005)
        yield content[half:cut]
        if cut < len(content):
            raise ConnectionError("the answer breaks off")

    async def _token(self, request: Request) -> Response:
        self.requests["token"] += 1
        assert request.query_params["service"] == "fake"
        return Response(self.token, media_type="application/json")

    def _refusal(self, request: Request) -> Response | None:
        if self.private_token is not None:
            known = request.headers.get("authorization") == f"Bearer {self.private_token}"
            return None if known else Response(status_code=401 if "authorization" not in request.headers else 403)
        if not self.wants_token or request.headers.get("authorization") == f"Bearer {TOKEN}":
            return None
        realm = self.realm or f"http://{self.host}/token"
        challenge = f'Bearer realm="{realm}",service="fake",scope="repository:library/tiny:pull"'
        return Response(status_code=401, headers={"www-authenticate": challenge})


@contextmanager
def fake_registry() -> Iterator[FakeRegistry]:
    """One that listens on 127.0.0.1 until the block ends."""
    registry = FakeRegistry()
    server = uvicorn.Server(
        uvicorn.Config(registry.app(), ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    )
    listener = socket.create_server(("127.0.0.1", 0))
    registry.port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline, "the registry did not start"
            time.sleep(0.005)
        yield registry
    finally:
        registry.held_from = None
        server.should_exit = True
        thread.join(20)
        listener.close()
