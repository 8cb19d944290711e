"""Finding stop strings in a text that arrives in pieces.

Text that could be the beginning of a stop string is held back until it is known not to be. Owns one sequence's held
text, never more than the longest stop string less one character. May not import anything of Pagemill.
"""

from typing import NamedTuple


class StopMatch(NamedTuple):
    """What can be given out, and the stop string that was found, if one was: then `text` is all there will be."""

    text: str
    stop: str | None


class StopStrings:
    """Watches one sequence's text for `stops`. The stop string that ends first wins; of two that end at the same
    character, the longer. With `include_stop`, the found string is given out too and nothing is held back.
    """

    __slots__ = ("_held", "_include_stop", "_longest", "_stops")

    def __init__(self, stops: tuple[str, ...], *, include_stop: bool = False) -> None:
        self._stops = stops
        self._include_stop = include_stop
        self._longest = max((len(stop) for stop in stops), default=0)
        self._held = ""  # with include_stop: given out already, kept to find stops across pieces

    def add(self, text: str) -> StopMatch:
        """Take the next piece of text."""
        if not self._stops:
            return StopMatch(text, None)
        window = self._held + text
        found = self._first_match(window)
        if found is not None:
            stop, start = found
            end = start + len(stop) if self._include_stop else start
            given = len(self._held) if self._include_stop else 0
            self._held = ""
            return StopMatch(window[given:end], stop)
        if self._include_stop:
            self._held = window[-(self._longest - 1) :] if self._longest > 1 else ""
            return StopMatch(text, None)
        keep = self._possible_start(window)
        self._held = window[len(window) - keep :]
        return StopMatch(window[: len(window) - keep], None)

    def finish(self) -> str:
        """The text still held; the sequence ended without a stop string."""
        held = "" if self._include_stop else self._held
        self._held = ""
        return held

    def _first_match(self, window: str) -> tuple[str, int] | None:
        best: tuple[int, int, str] | None = None  # (end, start, stop)
        for stop in self._stops:
            start = window.find(stop)
            if start >= 0 and (best is None or (start + len(stop), start) < best[:2]):
                best = (start + len(stop), start, stop)
        return None if best is None else (best[2], best[1])

    def _possible_start(self, window: str) -> int:
        """How many characters at the window's end could begin a stop string."""
        for length in range(min(self._longest - 1, len(window)), 0, -1):
            tail = window[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0
