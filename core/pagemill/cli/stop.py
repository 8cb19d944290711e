"""`pagemill stop`: unload a model of a running server; its next request loads it again."""

import argparse
import asyncio

from pagemill.cli.server_address import add_client_flags, server_access


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("MODEL", help="name of the model")
    add_client_flags(parser)


def execute(arguments: argparse.Namespace) -> int:
    asyncio.run(_stop(arguments))
    return 0


async def _stop(arguments: argparse.Namespace) -> None:
    from pagemill.cli.server_client import connect

    async with connect(server_access(arguments)) as server:
        await server.post("/api/generate", {"model": arguments.MODEL, "keep_alive": 0})
