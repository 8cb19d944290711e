"""The `/` commands of the interactive chat. Owns nothing: a command acts on the `Chat` that it was given."""

import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pagemill.cli.failure import CommandError
from pagemill.cli.model_card import parameters, write_model_card
from pagemill.cli.tables import write_line

if TYPE_CHECKING:
    from pagemill.cli.chat import Chat

HELP = """Available commands:
  /set            Set session variables
  /show           Show model information
  /load MODEL     Go on with another model
  /clear          Forget the conversation
  /bye            Exit
  /?, /help       Help for a command, as in /? set

Use \"\"\" to begin and end a message of several lines. Ctrl-C stops an answer, Ctrl-D exits."""

SET_HELP = """Available commands:
  /set system TEXT            Set the system message
  /set parameter NAME VALUE   Set a parameter (/set parameter lists them)
  /set history, nohistory     Whether the lines you type are kept for the next session
  /set verbose, quiet         Whether timings are printed"""

SHOW_HELP = """Available commands:
  /show info         What the model is
  /show parameters   Parameters of the model and of this session
  /show system       The system message
  /show template     The chat template"""

TOPICS = {"set": SET_HELP, "show": SHOW_HELP}


class ChatCommands:
    """Executes the commands of one chat. `leaving` is set by /bye."""

    def __init__(self, chat: "Chat") -> None:
        self.leaving = False
        self._chat = chat

    async def execute(self, text: str) -> None:
        """One command with its arguments.

        Raises:
            CommandError: there is no such command, or it is used wrongly.
        """
        name, _, rest = text.removeprefix("/").partition(" ")
        rest = rest.strip()
        match name:
            case "bye" | "exit":
                self.leaving = True
            case "?" | "help":
                write_line(TOPICS.get(rest.removeprefix("/"), HELP))
            case "clear":
                self._chat.conversation.messages.clear()
                write_line("Cleared the conversation.")
            case "load":
                await self._load(rest)
            case "set":
                self._set(rest)
            case "show":
                await self._show(rest)
            case _:
                raise CommandError(f"unknown command /{name}; /? lists them")

    async def _load(self, model: str) -> None:
        if not model:
            raise CommandError("usage: /load MODEL")
        await self._chat.load(model)
        write_line(f"Loaded {model}.")

    def _set(self, rest: str) -> None:
        chat = self._chat
        what, _, value = rest.partition(" ")
        match what:
            case "system":
                chat.conversation.system = _unquoted(value) or None
                write_line("Set the system message." if chat.conversation.system else "Removed the system message.")
            case "parameter":
                self._set_parameter(value)
            case "history" | "nohistory":
                chat.editor.remember_lines(what == "history")
            case "verbose" | "quiet":
                chat.verbose = what == "verbose"
                write_line(f"Set {what} mode.")
            case "":
                write_line(SET_HELP)
            case _:
                raise CommandError(f"unknown variable {what!r}; /set lists them")

    def _set_parameter(self, text: str) -> None:
        from pagemill.ollama_options import FLOATS, INTEGERS

        names = ", ".join(sorted({*INTEGERS, *FLOATS, "stop"}))
        if not text:
            write_line(f"Parameters: {names}\nUsage: /set parameter NAME VALUE")
            return
        name, _, rest = text.partition(" ")
        value = _parse_parameter(name, _split(rest), integers=INTEGERS, floats=FLOATS)
        if value is None:
            raise CommandError(f"unknown parameter {name!r}; there are {names}")
        self._chat.conversation.options[name] = _checked(name, value)
        write_line(f"Set parameter {name} to {value!r}.")

    async def _show(self, what: str) -> None:
        conversation = self._chat.conversation
        if what == "system":
            write_line(conversation.system or "No system message was set.")
            return
        if what not in ("info", "parameters", "template"):
            write_line(SHOW_HELP)
            return
        shown = await self._chat.server.post("/api/show", {"model": conversation.model})
        if what == "info":
            write_model_card(shown)
        elif what == "template":
            write_line(shown["template"] or "The model has no chat template.")
        else:
            _write_parameters(shown, conversation.options)


def _write_parameters(shown: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    for title, pairs in (("Model", parameters(shown)), ("Session", list(options.items()))):
        write_line(f"{title} parameters:")
        for name, value in pairs:
            write_line(f"  {name:<18} {value}")
        if not pairs:
            write_line("  none")


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise CommandError(f"{text}: {error}") from error


def _unquoted(text: str) -> str:
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


def _parse_parameter(
    name: str, words: list[str], *, integers: frozenset[str], floats: frozenset[str]
) -> int | float | list[str] | None:
    """The value in the type that the option has; None if there is no such option."""
    if name == "stop":
        return words
    if name not in integers | floats:
        return None
    if len(words) != 1:
        raise CommandError(f"parameter {name} takes one value")
    try:
        return int(words[0]) if name in integers else float(words[0])
    except ValueError as error:
        kind = "an integer" if name in integers else "a number"
        raise CommandError(f"parameter {name} is {kind}, got {words[0]!r}") from error


def _checked(name: str, value: int | float | list[str]) -> int | float | list[str]:
    """The value, if it is in the option's range: else the server would refuse every message from here on."""
    from pagemill.ollama_options import read_options

    read_options({name: value}, max_stop=sys.maxsize)  # that limit is the server's to set
    return value
