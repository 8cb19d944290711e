"""A client of an app in this process: so the CLI has one way to talk to a model, with a server or without.

Owns no state.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx

from pagemill.api.in_process import InProcessTransport
from pagemill.bootstrap import build_app
from pagemill.cli.server_client import ServerClient

if TYPE_CHECKING:
    from pagemill.pool import ModelPool
    from pagemill.settings import Settings

BASE_URL = "http://in-process"


@asynccontextmanager
async def in_process_client(settings: "Settings", pool: "ModelPool") -> AsyncIterator[ServerClient]:
    """A client of an app of its own, whose pool lives as long as the client."""
    app = build_app(settings, pool)
    async with app.router.lifespan_context(app):
        client = httpx.AsyncClient(transport=InProcessTransport(app), base_url=BASE_URL, timeout=None)
        async with ServerClient(client, "this process") as server:
            yield server
