"""`pagemill cp`: give a model that was pulled or created a second name. Its files are not copied."""

import argparse
import asyncio

from pagemill.cli.models_folder import add_folder_flags, folder_of, folder_settings
from pagemill.cli.server_address import server_access
from pagemill.cli.tables import write_line
from pagemill.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("SOURCE", help="name of a model, as `pagemill list` shows it")
    parser.add_argument("DESTINATION", help="its further name")
    add_folder_flags(parser)


def execute(arguments: argparse.Namespace) -> int:
    settings = folder_settings(arguments)
    if settings is None:
        asyncio.run(_by_server(arguments))
    else:
        _in_folder(arguments, settings)
    write_line(f"copied {arguments.SOURCE} to {arguments.DESTINATION}")
    return 0


async def _by_server(arguments: argparse.Namespace) -> None:
    from pagemill.cli.server_client import connect

    async with connect(server_access(arguments)) as server:
        body = {"source": arguments.SOURCE, "destination": arguments.DESTINATION}
        await server.send("POST", "/api/copy", body)


def _in_folder(arguments: argparse.Namespace, settings: Settings) -> None:
    from pagemill.store.registry import verbs
    from pagemill.store.registry.names import ModelName

    source, destination = ModelName.parse(arguments.SOURCE), ModelName.parse(arguments.DESTINATION)
    verbs.copy(folder_of(settings), source, destination)
