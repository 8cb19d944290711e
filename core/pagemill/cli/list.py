"""`pagemill list`: the models that a running server can serve."""

import argparse
import asyncio

from pagemill.cli.server_address import add_client_flags, server_access
from pagemill.cli.tables import human_age, human_size, write_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_client_flags(parser)


def execute(arguments: argparse.Namespace) -> int:
    asyncio.run(_list(arguments))
    return 0


async def _list(arguments: argparse.Namespace) -> None:
    from pagemill.cli.server_client import connect

    async with connect(server_access(arguments)) as server:
        models = (await server.get("/api/tags"))["models"]
    rows = [
        (model["name"], model["digest"][:12], human_size(model["size"]), human_age(model["modified_at"]))
        if "digest" in model
        else (model["name"], "", "", "")  # not fetched yet
        for model in models
    ]
    write_table(("NAME", "ID", "SIZE", "MODIFIED"), rows)
