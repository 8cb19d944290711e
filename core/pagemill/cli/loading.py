"""Has a model loaded before anything is asked of it, so that a failure shows at once. Owns no state.

On a terminal, a spinner shows that something is going on, and how far it is, if it takes so long that a user would
wonder.
"""

import asyncio
import sys
from typing import TYPE_CHECKING

from pagemill.cli.failure import CommandError

if TYPE_CHECKING:
    from pagemill.cli.server_client import ServerClient

PATIENCE_S = 0.5


async def load(server: "ServerClient", model: str, keep_alive: str | None = None) -> None:
    """Returns when the model is loaded.

    Raises:
        CommandError: it can't be; says why.
    """
    body: dict[str, object] = {"model": model, "messages": []}  # a chat that asks for nothing, as Ollama has it
    if keep_alive is not None:
        body["keep_alive"] = keep_alive
    spinning = asyncio.create_task(_spin(server, f"loading {model}")) if sys.stderr.isatty() else None
    try:
        await server.post("/api/chat", body)
    finally:
        if spinning is not None:
            spinning.cancel()
            await asyncio.wait([spinning])


async def _spin(server: "ServerClient", text: str) -> None:
    await asyncio.sleep(PATIENCE_S)
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        while True:
            status.update(await progress(server) or text)
            await asyncio.sleep(PATIENCE_S)


async def progress(server: "ServerClient") -> str | None:
    """How far the load is, in the server's words: it says so as long as it is not ready. None if it has none."""
    from pagemill.cli.server_client import NotFoundOnServerError

    try:
        await server.get("/readyz")
    except NotFoundOnServerError:  # a server of another kind
        return None
    except CommandError as error:
        return error.message
    return None
