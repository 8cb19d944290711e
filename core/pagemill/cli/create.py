"""`pagemill create`: make a model of a Modelfile, in the folder of a running server or one of this machine.

The files that it names are sent to the server, unless it has them. In a folder of this machine the same is asked of an
app in this process.
"""

import argparse
import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagemill.cli.failure import CommandError
from pagemill.cli.modelfile import Modelfile, parse_modelfile
from pagemill.cli.models_folder import add_folder_flags, folder_of, folder_settings
from pagemill.cli.pull_progress import Show, pull_progress
from pagemill.cli.server_address import server_access
from pagemill.cli.tables import write_error
from pagemill.settings import Settings

if TYPE_CHECKING:
    from pagemill.cli.server_client import ServerClient

DEFAULT_FILE = "Modelfile"
STANDARD_INPUT = "-"
SETTINGS = ("threads", "quantization_buffer_bytes")
SEND_BYTES = 2**20
PATH_STARTS = ("/", "./", "../", "~")
SUFFIX = ".gguf"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("NAME", help="what to call the model: [HOST/][OWNER/]MODEL[:TAG]")
    parser.add_argument(
        "-f", "--file", metavar="FILE", default=DEFAULT_FILE, help="the Modelfile, - for standard input [%(default)s]"
    )
    parser.add_argument("-q", "--quantize", metavar="TYPE", help="quantize the model to this type, such as q4_K_M")
    add_folder_flags(parser, *SETTINGS)


def execute(arguments: argparse.Namespace) -> int:
    modelfile = _read(arguments.file)
    body = {"model": arguments.NAME, **modelfile.request()}
    if arguments.quantize:
        body["quantize"] = arguments.quantize
    folder = Path() if arguments.file == STANDARD_INPUT else Path(arguments.file).expanduser().parent
    file = _file_of(modelfile.source, folder)
    if file is None:
        body["from"] = modelfile.source
    settings = folder_settings(arguments)
    asyncio.run(_create(body, file, _by_server(arguments) if settings is None else _in_folder(settings)))
    return 0


def _read(name: str) -> Modelfile:
    try:
        content = sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(name).expanduser().read_bytes()
    except OSError as error:
        raise CommandError(f"can't read the Modelfile {name} (-f): {error.strerror}") from error
    try:
        modelfile = parse_modelfile(content)
    except CommandError as error:
        raise CommandError(f"{name}: {error}") from error
    for warning in modelfile.warnings:
        write_error(f"{name}: {warning}")
    return modelfile


async def _create(
    body: dict[str, object], file: Path | None, connection: "AbstractAsyncContextManager[ServerClient]"
) -> None:
    """As the body says; of the file, if there is one."""
    async with connection as server:
        with pull_progress() as show:
            if file is not None:
                body["files"] = {file.name: await _sent(server, file, show)}
            async with aclosing(server.stream("/api/create", body)) as statuses:
                async for status in statuses:
                    show(status)


def _file_of(source: str, folder: Path) -> Path | None:
    """The file that a FROM means, from the Modelfile's folder; None if it is a model's name.

    Raises:
        CommandError: it means something that no model can be made of.
    """
    path = folder / Path(source).expanduser()
    if path.is_dir():
        raise CommandError(f"FROM {source}: {path} is a folder; a model is made of a GGUF file or of another model")
    if path.exists():
        return path
    if source.startswith(PATH_STARTS) or source.endswith(SUFFIX):
        raise CommandError(f"FROM {source}: there is no file {path}")
    return None


async def _sent(server: "ServerClient", file: Path, show: Show) -> str:
    """The digest of a file that the server has then."""
    show({"status": "gathering model components"})
    try:
        digest, num_bytes = await asyncio.to_thread(_digest_and_size, file)
        path = f"/api/blobs/{digest}"
        if not await server.has(path):
            async with aclosing(_pieces(file, digest, num_bytes, show)) as pieces:
                await server.upload(path, pieces, num_bytes)
    except OSError as error:
        raise CommandError(f"can't read {file}: {error.strerror}") from error
    return digest


def _digest_and_size(file: Path) -> tuple[str, int]:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return f"sha256:{digest}", os.fstat(opened.fileno()).st_size


async def _pieces(file: Path, digest: str, num_bytes: int, show: Show) -> AsyncGenerator[bytes, None]:
    status: dict[str, Any] = {"status": f"copying file {digest}", "digest": digest, "total": num_bytes}
    with file.open("rb") as opened:
        while piece := await asyncio.to_thread(opened.read, SEND_BYTES):
            yield piece
            show({**status, "completed": opened.tell()})


@asynccontextmanager
async def _by_server(arguments: argparse.Namespace) -> "AsyncIterator[ServerClient]":
    from pagemill.cli.server_client import connect

    async with connect(server_access(arguments)) as server:
        yield server


@asynccontextmanager
async def _in_folder(settings: Settings) -> "AsyncIterator[ServerClient]":
    """An app of its own that serves nothing but the folder, to this process."""
    from pagemill.bootstrap import build_pool
    from pagemill.cli.in_process import in_process_client

    os.makedirs(folder_of(settings), exist_ok=True)
    names = ("models_dir", *SETTINGS)
    own = Settings(manage_models=True, **{name: getattr(settings, name) for name in names})
    async with in_process_client(own, build_pool(own)) as server:
        yield server
