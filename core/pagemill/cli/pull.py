"""`pagemill pull`: fetch a model from a registry, into the folder of a running server or one of this machine."""

import argparse
import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from pagemill.cli.models_folder import add_folder_flags, folder_of, folder_settings
from pagemill.cli.pull_progress import pull_progress
from pagemill.cli.server_address import server_access
from pagemill.settings import Settings

DOWNLOAD_SETTINGS = (
    "registries",
    "registry_tokens",
    "download_concurrency",
    "download_part_bytes",
    "download_timeout_s",
    "download_retries",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "MODEL", help="[HOST/][OWNER/]MODEL[:TAG], such as llama3.2:3b or hf.co/OWNER/REPOSITORY:Q4_K_M"
    )
    parser.add_argument("--insecure", action="store_true", help="ask the registry by HTTP instead of HTTPS")
    add_folder_flags(parser, *DOWNLOAD_SETTINGS)


def execute(arguments: argparse.Namespace) -> int:
    settings = folder_settings(arguments)
    asyncio.run(_pull(_by_server(arguments) if settings is None else _into_folder(arguments, settings)))
    return 0


async def _pull(statuses: AsyncGenerator[dict[str, Any], None]) -> None:
    with pull_progress() as show:
        async with aclosing(statuses):
            async for status in statuses:
                show(status)


async def _by_server(arguments: argparse.Namespace) -> AsyncGenerator[dict[str, Any], None]:
    from pagemill.cli.server_client import connect

    async with connect(server_access(arguments)) as server:
        body = {"model": arguments.MODEL, "insecure": arguments.insecure}
        async with aclosing(server.stream("/api/pull", body)) as statuses:
            async for status in statuses:
                yield status


async def _into_folder(arguments: argparse.Namespace, settings: Settings) -> AsyncGenerator[dict[str, Any], None]:
    from pagemill.store.registry.names import ModelName
    from pagemill.store.registry.pulling import PullOptions, Pulls

    pulls = Pulls(folder_of(settings), PullOptions.of(settings))
    name = ModelName.parse(arguments.MODEL)
    async with aclosing(pulls.pull(name, insecure=arguments.insecure)) as statuses:
        async for status in statuses:
            yield status.as_json()
