"""Text that arrives in pieces, and the small readers that parsers of a model's answers are written with.

A reader is a generator that yields whenever it needs more text, so a parser reads like one of a whole text, and gives
the same wherever the text is cut. A `TextSource` owns what has come and was not read yet. May not import anything of
Pagemill.
"""

import re
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")

Reading = Generator[None, None, T]
Write = Callable[[str], None]

SPACE = re.compile(r"\s*")


class TextSource:
    """The text not read yet. From a `mark` on it is kept, so that reading can go back there."""

    __slots__ = ("_at", "_kept", "_text", "ended")

    def __init__(self) -> None:
        self._text = ""
        self._at = 0
        self._kept: int | None = None
        self.ended = False  # no more text will come

    def add(self, text: str) -> None:
        """Take the next piece of text."""
        start = self._at if self._kept is None else self._kept
        self._text = self._text[start:] + text
        self._at -= start
        if self._kept is not None:
            self._kept = 0

    @property
    def exhausted(self) -> bool:
        """Whether all that has come is read."""
        return self._at == len(self._text)

    def rest(self) -> str:
        """All that has come and is not read."""
        return self._text[self._at :]

    def peek(self) -> str:
        """The next character; "" if none has come."""
        return self._text[self._at : self._at + 1]

    def startswith(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def match(self, pattern: re.Pattern[str]) -> str:
        """What the pattern matches here, not read."""
        found = pattern.match(self._text, self._at)
        return "" if found is None else found.group()

    def take(self, count: int) -> str:
        """Read that many characters."""
        start, self._at = self._at, self._at + count
        return self._text[start : self._at]

    def back(self, count: int) -> None:
        """Read the last characters again. Not after waiting for more text: what was read before may be gone."""
        self._at -= count

    def mark(self) -> None:
        """Keep the text from here on."""
        self._kept = self._at

    def rewind(self) -> None:
        """Go back to the mark, and keep no more."""
        assert self._kept is not None
        self._at, self._kept = self._kept, None

    def commit(self) -> None:
        """There will be no way back to the mark."""
        self._kept = None


def next_char(source: TextSource) -> Reading[str]:
    """The next character, not read; "" at the end of the text."""
    while source.exhausted and not source.ended:
        yield
    return source.peek()


def skip_space(source: TextSource) -> Reading[None]:
    yield from take_while(source, SPACE)


def take_while(source: TextSource, pattern: re.Pattern[str]) -> Reading[str]:
    """Read as long as the pattern matches, which must be one class of characters, repeated."""
    taken = ""
    while True:
        taken += source.take(len(source.match(pattern)))
        if not source.exhausted or source.ended:
            return taken
        yield


def accept(source: TextSource, *markers: str) -> Reading[str | None]:
    """Read the first of the markers that the text goes on with; None, and nothing is read, if it is another text."""
    while True:
        for marker in markers:
            if source.startswith(marker):
                return source.take(len(marker))
        rest = source.rest()
        if source.ended or not any(marker.startswith(rest) for marker in markers):
            return None
        yield


def until(source: TextSource, markers: tuple[str, ...], write: Write) -> Reading[str | None]:
    """Write out what comes before the first of the markers, and read that too; None: the text ended without one."""
    while True:
        text = source.rest()
        at, marker = _first(text, markers)
        if marker is None:
            at = len(text) - (0 if source.ended else _possible_start(text, markers))
        if at:
            write(source.take(at))
        if marker is not None:
            source.take(len(marker))
            return marker
        if source.ended:
            return None
        yield


def copy_all(source: TextSource, write: Write) -> Reading[None]:
    """Write out all text as it comes."""
    while True:
        text = source.rest()
        if text:
            write(source.take(len(text)))
        if source.ended:
            return
        yield


def _first(text: str, markers: tuple[str, ...]) -> tuple[int, str | None]:
    """Where the first marker is; of two that begin there, the longer."""
    first, found = 0, None
    for marker in markers:
        at = text.find(marker)
        if at >= 0 and (found is None or (at, -len(marker)) < (first, -len(found))):
            first, found = at, marker
    return first, found


def _possible_start(text: str, markers: tuple[str, ...]) -> int:
    """How many characters at the text's end could begin a marker."""
    most = 0
    for marker in markers:
        at = text.find(marker[0], max(len(text) - len(marker) + 1, 0))
        while at >= 0 and not marker.startswith(text[at:]):
            at = text.find(marker[0], at + 1)
        if at >= 0:
            most = max(most, len(text) - at)
    return most
