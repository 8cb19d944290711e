"""`pagemill rm`: delete models that were pulled, created or copied, and the files that no other of them needs."""

import argparse
import asyncio

from pagemill.cli.models_folder import add_folder_flags, folder_of, folder_settings
from pagemill.cli.server_address import server_access
from pagemill.cli.tables import write_line
from pagemill.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("MODEL", nargs="+", help="name of a model, as `pagemill list` shows it")
    add_folder_flags(parser)


def execute(arguments: argparse.Namespace) -> int:
    settings = folder_settings(arguments)
    if settings is None:
        asyncio.run(_by_server(arguments))
    else:
        _in_folder(arguments, settings)
    return 0


async def _by_server(arguments: argparse.Namespace) -> None:
    from pagemill.cli.server_client import connect

    async with connect(server_access(arguments)) as server:
        for name in arguments.MODEL:
            await server.send("DELETE", "/api/delete", {"model": name})
            write_line(f"deleted {name}")


def _in_folder(arguments: argparse.Namespace, settings: Settings) -> None:
    from pagemill.store.registry import verbs
    from pagemill.store.registry.names import ModelName

    for name in arguments.MODEL:
        verbs.delete(folder_of(settings), ModelName.parse(name))
        write_line(f"deleted {name}")
