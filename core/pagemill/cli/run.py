"""`pagemill run`: chat with a model on a terminal, or answer one prompt from the arguments or a pipe."""

import argparse
import asyncio
import json
import sys
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from pagemill.cli.answering import Output, answer
from pagemill.cli.conversation import Conversation
from pagemill.cli.endpoint import open_endpoint
from pagemill.cli.failure import CommandError
from pagemill.cli.flags import ENGINE_SETTINGS, add_settings_flags, given_settings
from pagemill.cli.loading import load
from pagemill.cli.logs import configure_logging
from pagemill.cli.server_address import add_client_flags
from pagemill.errors import InvalidRequestError, SettingsError
from pagemill.keep_alive import parse_keep_alive

THINK = {"true": True, "false": False, "high": "high", "medium": "medium", "low": "low"}
ONE_SEQUENCE = {"max_num_seqs": 1}  # there is one user: all of the KV memory for one conversation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("MODEL", help="name of a model, a .gguf path, a model folder, or either in S3")
    parser.add_argument("PROMPT", nargs="*", help="answer this, after what a pipe brings, and exit; else chat")
    parser.add_argument("--verbose", action="store_true", help="print timings after each answer")
    parser.add_argument("--nowordwrap", action="store_true", help="leave it to the terminal where lines are broken")
    parser.add_argument("--format", metavar="FORMAT", help="what answers must be: json, or a JSON schema")
    _add_think(parser)
    parser.add_argument(
        "--keepalive", metavar="DURATION", help='how long the server keeps the model loaded afterwards, such as "5m"'
    )
    add_client_flags(parser)
    add_settings_flags(parser, ENGINE_SETTINGS)


def _add_think(parser: argparse.ArgumentParser) -> None:
    """As Ollama has it: `--think MODEL` and `--think=high MODEL`, so a flag for each way to write it."""
    help_text = "have the model think first; also --think=false, --think=high, medium or low [as the model has it]"
    parser.add_argument("--think", action="store_const", const=True, help=help_text)
    for text, value in THINK.items():
        parser.add_argument(f"--think={text}", dest="think", action="store_const", const=value, help=argparse.SUPPRESS)


def execute(arguments: argparse.Namespace) -> int:
    _check_keep_alive(arguments.keepalive)
    configure_logging(getattr(arguments, "log_level", "warning"))
    prompt = _prompt(arguments.PROMPT)
    asyncio.run(_run(arguments, prompt))
    return 0


def _check_keep_alive(value: str | None) -> None:
    if value is not None:
        try:
            parse_keep_alive(value)
        except InvalidRequestError as error:
            raise SettingsError(f"--keepalive: {error}") from error


def _format(text: str | None) -> str | dict[str, Any] | None:
    if text is None or text == "json":
        return text
    try:
        schema = json.loads(text)
    except ValueError:
        schema = None
    if not isinstance(schema, dict):
        raise SettingsError(f"--format: it is neither json nor a JSON schema: {text}")
    return schema


def _prompt(words: list[str]) -> str | None:
    """What to answer: piped text, then the arguments. None: chat."""
    is_piped = sys.stdin is not None and not sys.stdin.isatty()  # None if it is closed
    if not words and sys.stdin is not None and not is_piped and sys.stdout.isatty():
        return None
    try:
        piped = sys.stdin.read().rstrip("\n") if is_piped else ""
        prompt = " ".join(part for part in (piped, *words) if part)
        prompt.encode()
    except UnicodeError as error:
        raise CommandError(f"the prompt is no text in {sys.getfilesystemencoding()}: {error}") from error
    return prompt


async def _run(arguments: argparse.Namespace, prompt: str | None) -> None:
    conversation = Conversation(
        arguments.MODEL, arguments.keepalive, format=_format(arguments.format), think=arguments.think
    )
    output = Output(verbose=arguments.verbose, word_wrap=not arguments.nowordwrap)
    flags: dict[str, Any] = {**ONE_SEQUENCE, **given_settings(arguments)}
    connect = partial(open_endpoint, arguments=arguments, flags=flags)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(connect(arguments.MODEL))
        await load(server, arguments.MODEL, arguments.keepalive)
        if prompt is None:
            from pagemill.cli.chat import Chat

            await Chat(conversation, server, stack, connect, output).run()
        elif prompt:  # else there is nothing to say, and it was only to be loaded
            await answer(server, conversation, prompt, output)
