"""The chat page's files over HTTP: with a policy that lets the page load and ask nothing but this server.

A `Page` owns the files' bytes, read once. All links in the page are relative, so it works behind any path prefix.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "files"
START = "index.html"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Trusted Types: the browser refuses to make HTML from text, so what a model writes can't become any.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "cache-control": "no-cache",  # kept, but asked for by its ETag each time: an upgrade shows at once
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class File(NamedTuple):
    """One file, and what it is called while it does not change."""

    content: bytes
    content_type: str
    etag: str


class Page:
    """The files of a folder, by name."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {path.name: _read(path) for path in folder.iterdir() if path.suffix in CONTENT_TYPES}

    async def serve(self, request: Request) -> Response:
        """The file that the path names, or 304 if the client has it; without a name the page itself."""
        file = self._files.get(request.path_params.get("name", START))
        if file is None:
            raise HTTPException(404)
        headers = {**HEADERS, "etag": file.etag}
        if file.etag in _known_to(request):
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.content_type)

    async def redirect(self, request: Request) -> Response:
        """From `/ui` to `/ui/`, from where the page's links lead. Relative: what a proxy stripped need not be known."""
        return Response(status_code=307, headers={"location": "ui/"})


def _read(path: Path) -> File:
    content = path.read_bytes()
    return File(content, CONTENT_TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _known_to(request: Request) -> list[str]:
    """The ETags of the files that the client has. Compression on the way makes them weak ones."""
    given = request.headers.get("if-none-match", "")
    return [tag.strip().removeprefix("W/") for tag in given.split(",")]
