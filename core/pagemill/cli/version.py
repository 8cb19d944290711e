"""`pagemill version`: of this command, and of the server if one can be reached."""

import argparse
import asyncio

from pagemill import __version__
from pagemill.cli.failure import CommandError
from pagemill.cli.server_address import add_client_flags, api_key, listens, server_address
from pagemill.cli.tables import write_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_client_flags(parser)


def execute(arguments: argparse.Namespace) -> int:
    write_line(f"pagemill {__version__}")
    address = server_address(arguments)
    if listens(address):
        write_line(f"server at {address}: {asyncio.run(_server_version(address, api_key(arguments)))}")
    elif arguments.server:
        raise CommandError(f"no server answers at {address}")
    return 0


async def _server_version(address: str, key: str | None) -> str:
    from pagemill.cli.server_client import connect

    async with connect(address, key) as server:
        return str((await server.get("/api/version"))["version"])
