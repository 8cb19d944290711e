"""Where a model is to be had: from a running server if it serves it, else from an engine in this process.

Owns no state. Whether a server listens is asked before httpx or the web stack is imported: a refused connection costs
a millisecond, and the load can begin.
"""

import argparse
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pagemill.cli.failure import CommandError
from pagemill.cli.server_address import listens, server_access
from pagemill.settings import UNGUARDED, Settings
from pagemill.settings_layers import load_settings

if TYPE_CHECKING:
    from pagemill.cli.server_client import ServerClient

# An engine of our own listens nowhere and asks for no key, whatever the environment says of the server's.
IN_PROCESS: dict[str, Any] = {
    **UNGUARDED,
    "root_path": "",
    "keep_alive": "-1",
    "served_model_name": (),
    "manage_models": True,
}


@asynccontextmanager
async def open_endpoint(
    model: str, arguments: argparse.Namespace, flags: Mapping[str, Any]
) -> "AsyncIterator[ServerClient]":
    """A client through which `model` can be used. `flags` are settings for an engine in this process.

    Raises:
        CommandError: the server that was named does not answer, or does not serve it.
        ModelNotFoundError, ModelLoadError, SettingsError: no server serves it, and it can't be loaded here.
    """
    access = server_access(arguments)
    if arguments.server or listens(access.address):
        from pagemill.cli.server_client import connect

        async with connect(access) as server:
            if await _serves(server, model, must=bool(arguments.server)):
                yield server
                return
    async with _own_engine(load_settings({**flags, "model": model, **IN_PROCESS})) as server:
        yield server


async def _serves(server: "ServerClient", model: str, *, must: bool) -> bool:
    from pagemill.cli.server_client import NotFoundOnServerError

    try:
        await server.post("/api/show", {"model": model})
    except NotFoundOnServerError:
        if not must:
            return False
        names = ", ".join(entry["name"] for entry in (await server.get("/api/tags")).get("models", ()))
        raise CommandError(f"the server at {server.address} does not serve {model!r}, but {names}") from None
    return True


@asynccontextmanager
async def _own_engine(settings: Settings) -> "AsyncIterator[ServerClient]":
    from pagemill.bootstrap import build_pool

    pool = build_pool(settings, load_at_once=True)  # loads while the web stack and httpx are imported
    from pagemill.cli.in_process import in_process_client

    async with in_process_client(settings, pool) as server:
        yield server
