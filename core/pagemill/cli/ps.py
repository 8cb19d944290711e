"""`pagemill ps`: the models that are loaded in a running server, and until when."""

import argparse
import asyncio

from pagemill.cli.server_address import add_client_flags, server_access
from pagemill.cli.tables import human_size, human_until, write_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_client_flags(parser)


def execute(arguments: argparse.Namespace) -> int:
    asyncio.run(_ps(arguments))
    return 0


async def _ps(arguments: argparse.Namespace) -> None:
    from pagemill.cli.server_client import connect

    async with connect(server_access(arguments)) as server:
        models = (await server.get("/api/ps"))["models"]
    rows = [
        (
            model["name"],
            model["digest"][:12],
            human_size(model["size"]),
            _processor(model),
            str(model["context_length"]),
            human_until(model["expires_at"]),
        )
        for model in models
    ]
    write_table(("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"), rows)


def _processor(model: dict[str, int]) -> str:
    """How much of the model is where."""
    percent = round(100 * model["size_vram"] / model["size"]) if model["size"] else 0
    if percent in (0, 100):
        return "100% GPU" if percent else "100% CPU"
    return f"{100 - percent}%/{percent}% CPU/GPU"
