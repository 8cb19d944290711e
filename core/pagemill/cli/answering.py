"""Prints an answer while it comes, and its timings. Owns no state."""

import sys
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from pagemill.cli.conversation import Conversation
from pagemill.cli.tables import human_duration, write, write_error, write_line

if TYPE_CHECKING:
    from pagemill.cli.server_client import ServerClient

# A model's text must not move the cursor or change the terminal's state.
CONTROL_CHARACTERS = dict.fromkeys([code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"])


async def answer(server: "ServerClient", conversation: Conversation, text: str, *, verbose: bool) -> None:
    """Say `text` and print the answer, then its timings if `verbose`. Ends with a line break, also when interrupted.
    What the model thinks before is for people to read: it is printed on a terminal only.
    """
    on_terminal = sys.stdout.isatty()
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
                    write("Thinking...\n")
                if piece and is_thinking:
                    write("\n...done thinking.\n\n")
                is_thinking = bool(thought) or (is_thinking and not piece)
                write((thought + piece).translate(CONTROL_CHARACTERS))
    finally:
        write_line()
    if verbose:
        write_timings(last)


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
