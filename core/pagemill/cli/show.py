"""`pagemill show`: what a model is; asked of a running server that serves it, else read from its file."""

import argparse
import asyncio
import json

from pagemill.cli.endpoint import open_endpoint
from pagemill.cli.flags import add_settings_flags, given_settings
from pagemill.cli.logs import configure_logging
from pagemill.cli.model_card import write_model_card
from pagemill.cli.server_address import add_client_flags
from pagemill.cli.tables import write_line

PARTS = {
    "modelfile": "a Modelfile that makes it again",
    "template": "the chat template",
    "parameters": "the parameters",
    "system": "the system prompt",
    "license": "the licence",
}
# The model is loaded to be described, not to be used: the smallest engine will do.
SMALLEST_ENGINE = {"max_num_seqs": 1, "max_num_batched_tokens": 32, "max_model_len": 32}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("MODEL", help="name of a model, a .gguf path, a model folder, or either in S3")
    which = parser.add_mutually_exclusive_group()
    for name, what in PARTS.items():
        which.add_argument(f"--{name}", action="store_true", help=f"print only {what}")
    which.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="with the metadata of the model's file")
    add_client_flags(parser)
    add_settings_flags(parser, ("models_dir",))


def execute(arguments: argparse.Namespace) -> int:
    configure_logging("error")
    asyncio.run(_show(arguments))
    return 0


async def _show(arguments: argparse.Namespace) -> None:
    async with open_endpoint(arguments.MODEL, arguments, {**SMALLEST_ENGINE, **given_settings(arguments)}) as server:
        shown = await server.post("/api/show", {"model": arguments.MODEL, "verbose": arguments.verbose})
    if arguments.json:
        write_line(json.dumps(shown, indent=2, ensure_ascii=False))
    elif (part := next((name for name in PARTS if getattr(arguments, name)), None)) is not None:
        write_line(shown.get(part, "").rstrip("\n"))
    else:
        write_model_card(shown, verbose=arguments.verbose)
