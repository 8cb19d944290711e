"""`pagemill version`: of this command, and of the server if one can be reached."""

import argparse
import asyncio

from pagemill import __version__
from pagemill.cli.failure import CommandError
from pagemill.cli.server_address import ServerAccess, add_client_flags, listens, server_access
from pagemill.cli.tables import write_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_client_flags(parser)


def execute(arguments: argparse.Namespace) -> int:
    write_line(f"pagemill {__version__}")
    access = server_access(arguments)
    if listens(access.address):
        write_line(f"server at {access.address}: {asyncio.run(_server_version(access))}")
    elif arguments.server:
        raise CommandError(f"no server answers at {access.address}")
    return 0


async def _server_version(access: ServerAccess) -> str:
    from pagemill.cli.server_client import connect

    async with connect(access) as server:
        return str((await server.get("/api/version"))["version"])
