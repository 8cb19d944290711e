"""The `pagemill` command: finds the verb, imports only that verb, and turns errors into one line and an exit code.

Exit codes: 0 done; 1 it failed; 2 wrong usage or settings; 130 interrupted. Imports nothing but the standard library
until the verb is known.
"""

import argparse
import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from pagemill import __version__
from pagemill.errors import PagemillError, SettingsError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT


class Verb(NamedTuple):
    """A subcommand: `pagemill.cli.<name>` has `add_arguments(parser)` and `execute(arguments) -> int`."""

    name: str
    summary: str

    def load(self) -> ModuleType:
        return importlib.import_module(f"pagemill.cli.{self.name}")


VERBS = (
    Verb("serve", "serve models over HTTP (OpenAI's, Ollama's and Anthropic's API)"),
    Verb("run", "chat with a model, or answer one prompt"),
    Verb("list", "list the models of a running server"),
    Verb("show", "show what a model is"),
    Verb("pull", "fetch a model from a registry"),
    Verb("create", "make a model of a Modelfile"),
    Verb("cp", "give a model that was pulled a second name"),
    Verb("rm", "delete models that were pulled"),
    Verb("ps", "list the models that are loaded in a running server"),
    Verb("stop", "unload a model of a running server"),
    Verb("snapshot", "compute the KV of a fixed prefix once, for servers that start later"),
    Verb("version", "print the version, and that of a running server"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    gc.disable()  # imports make no garbage, but looking for it takes a tenth of their time
    parser, chosen = _parse(argv)
    gc.enable()
    try:
        if chosen is None:
            parser.print_help(sys.stderr)
            return EXIT_USAGE
        code: int = chosen.load().execute(parser.parse_args(argv))
        sys.stdout.flush()
    except SettingsError as error:
        return _fail(str(error), EXIT_USAGE)
    except PagemillError as error:
        return _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else what is left fails once more at the exit
        # A broken pipe needs no word: whoever read our output has enough of it.
        return EXIT_FAILED if isinstance(error, BrokenPipeError) else _fail(str(error), EXIT_FAILED)
    return code


def _parse(argv: Sequence[str]) -> tuple[argparse.ArgumentParser, Verb | None]:
    """A parser that knows all verbs by name, and the arguments of the one that is asked for."""
    parser = argparse.ArgumentParser(
        prog="pagemill",
        description="One LLM endpoint for laptops, CPU functions and GPU containers.",
        epilog="`pagemill VERB --help` tells a verb's flags.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pagemill {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    asked = next((argument for argument in argv if not argument.startswith("-")), None)
    chosen = None
    for verb in VERBS:
        verb_parser = verbs.add_parser(verb.name, help=verb.summary, description=_sentence(verb), allow_abbrev=False)
        if verb.name == asked:
            chosen = verb
            verb.load().add_arguments(verb_parser)
    if chosen is None:
        parser.parse_args(argv)  # --help, --version, or the error that names what is wrong
    return parser, chosen


def _sentence(verb: Verb) -> str:
    return f"{verb.summary[0].upper()}{verb.summary[1:]}."


def _fail(message: str, code: int) -> int:
    print(f"pagemill: {message}", file=sys.stderr)  # noqa: T201
    return code
