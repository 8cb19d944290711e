"""Prints an answer while it comes, and its timings. Owns no state but how that is wanted."""

import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pagemill.cli.conversation import Conversation
from pagemill.cli.tables import human_duration, write, write_error, write_line

if TYPE_CHECKING:
    from pagemill.cli.server_client import ServerClient

# A model's text must not move the cursor or change the terminal's state.
CONTROL_CHARACTERS = dict.fromkeys([code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"])


@dataclass(slots=True)
class Output:
    """How answers are printed."""

    verbose: bool = False  # with timings
    word_wrap: bool = True  # with lines broken between words, on a terminal


async def answer(server: "ServerClient", conversation: Conversation, text: str, output: Output) -> None:
    """Say `text` and print the answer. Ends with a line break, also when interrupted.
    What the model thinks before is for people to read: it is printed on a terminal only.
    """
    on_terminal = sys.stdout.isatty()
    show = _wrapped() if on_terminal and output.word_wrap else write
    last: Mapping[str, Any] = {}
    is_thinking = False
    try:
        async with aclosing(conversation.say(server, text)) as lines:
            async for last in lines:
                piece, thought = last["message"].get("content") or "", last["message"].get("thinking") or ""
                if not on_terminal:
                    write(piece)
                    continue
                if bool(thought) > is_thinking:
                    show("Thinking...\n")
                if piece and is_thinking:
                    show("\n...done thinking.\n\n")
                is_thinking = bool(thought) or (is_thinking and not piece)
                show(printable(thought + piece))
    finally:
        write_line()
    if output.verbose:
        write_timings(last)


def printable(text: str) -> str:
    """Without what a terminal takes for a command."""
    return text.translate(CONTROL_CHARACTERS)


def _wrapped() -> Callable[[str], None]:
    from pagemill.cli.word_wrap import WordWrap

    return WordWrap(write, lambda: shutil.get_terminal_size().columns)


def write_timings(last: Mapping[str, Any]) -> None:
    """The final line's counts and durations, in Ollama's words, on standard error."""
    for name, value in _timings(last):
        write_error(f"{name + ':':<22}{value}")


def _timings(last: Mapping[str, Any]) -> list[tuple[str, str]]:
    totals = ("total_duration", "load_duration")
    found = [(name.replace("_", " "), human_duration(last[name])) for name in totals if name in last]
    for stage in ("prompt_eval", "eval"):
        count, duration = last.get(f"{stage}_count"), last.get(f"{stage}_duration")
        title = stage.replace("_", " ")
        if count is not None:
            found.append((f"{title} count", f"{count} token(s)"))
        if duration:
            found.append((f"{title} duration", human_duration(duration)))
            found.append((f"{title} rate", f"{(count or 0) / duration * 1e9:.2f} tokens/s"))
    return found
