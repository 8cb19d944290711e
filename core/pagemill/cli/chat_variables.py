"""`/set` of the interactive chat. Owns nothing: it changes the `Chat` that it was given."""

import shlex
import sys
from typing import TYPE_CHECKING

from pagemill.cli.failure import CommandError
from pagemill.cli.tables import write_line

if TYPE_CHECKING:
    from pagemill.cli.chat import Chat

SET_HELP = """Available commands:
  /set system TEXT            Set the system message
  /set parameter NAME VALUE   Set a parameter (/set parameter lists them)
  /set format json, noformat  Whether answers are JSON
  /set think, nothink         Whether the model thinks first; think takes high, medium or low, too
  /set history, nohistory     Whether the lines you type are kept for the next session
  /set wordwrap, nowordwrap   Whether lines are broken between words
  /set verbose, quiet         Whether timings are printed"""

FORMATS = ("json",)
THINK_LEVELS = ("high", "medium", "low")


async def set_variable(chat: "Chat", text: str) -> None:
    """
    Raises:
        CommandError: there is no such variable, or not with that value.
    """
    what, _, value = text.partition(" ")
    conversation = chat.conversation
    match what:
        case "system":
            conversation.system = _unquoted(value) or None
            write_line("Set the system message." if conversation.system else "Removed the system message.")
        case "parameter":
            _set_parameter(chat, value)
        case "format":
            if value not in FORMATS:
                raise CommandError(f"usage: /set format {'|'.join(FORMATS)}; with a schema, `pagemill run --format`")
            conversation.format = value
            write_line(f"Set format to {value}.")
        case "noformat":
            conversation.format = None
            write_line("Disabled format.")
        case "think" | "nothink":
            await _set_think(chat, what, value)
        case "history" | "nohistory":
            chat.editor.remember_lines(what == "history")
        case "wordwrap" | "nowordwrap":
            chat.output.word_wrap = what == "wordwrap"
            write_line(f"Set {what} mode.")
        case "verbose" | "quiet":
            chat.output.verbose = what == "verbose"
            write_line(f"Set {what} mode.")
        case "":
            write_line(SET_HELP)
        case _:
            raise CommandError(f"unknown variable {what!r}; /set lists them")


async def _set_think(chat: "Chat", what: str, level: str) -> None:
    if level and (what == "nothink" or level not in THINK_LEVELS):
        raise CommandError(f"usage: /set think [{'|'.join(THINK_LEVELS)}], /set nothink")
    if what == "think" and "thinking" not in (await chat.show()).get("capabilities", ()):
        raise CommandError(f"{chat.conversation.model} does not support thinking")
    chat.conversation.think = level or what == "think"
    write_line(f"Set {what} mode{f' ({level})' if level else ''}.")


def _set_parameter(chat: "Chat", text: str) -> None:
    from pagemill.ollama_options import OF_GENERATIONS, parameter_of_text, read_options

    names = ", ".join(sorted(OF_GENERATIONS))
    if not text:
        write_line(f"Parameters: {names}\nUsage: /set parameter NAME VALUE")
        return
    name, _, rest = text.partition(" ")
    if name not in OF_GENERATIONS:
        raise CommandError(f"unknown parameter {name!r}; there are {names}")
    words = _split(rest)
    if name != "stop" and len(words) != 1:
        raise CommandError(f"parameter {name} takes one value")
    value = words if name == "stop" else parameter_of_text(name, words[0])
    # Out of its range the server would refuse every message from here on. How many stops there may be it says itself.
    read_options({name: value}, max_stop=sys.maxsize)
    chat.conversation.options[name] = value
    write_line(f"Set parameter {name} to {value!r}.")


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise CommandError(f"{text}: {error}") from error


def _unquoted(text: str) -> str:
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text
