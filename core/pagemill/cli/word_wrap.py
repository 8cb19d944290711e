"""Text on a terminal while it comes, with lines broken between words. Owns the word that is being written.

A word is written as it comes, before its end is known. If it then does not fit, it is taken back and begun anew on the
next line; if it is wider than a line, it is broken anywhere.
"""

from collections.abc import Callable

from rich.cells import cell_len

TAKE_BACK = "\x1b[{}D\x1b[K"  # so many columns to the left, and clear the rest of the line
TAB_COLUMNS = 8


class WordWrap:
    """Of one answer. `width` tells how many columns the terminal has now; the last is left free, since in it the cursor
    stands on what was written, not behind it.
    """

    def __init__(self, write: Callable[[str], None], width: Callable[[], int]) -> None:
        self._write = write
        self._width = width
        self._column = 0
        self._word = ""  # at the end of the line, as far as it came

    def __call__(self, text: str) -> None:
        """Write it all."""
        width = self._width() - 1
        self._write("".join(self._placed(character, width) for character in text))

    def _placed(self, character: str, width: int) -> str:
        """What to write for a character."""
        if character == "\n":
            self._column, self._word = 0, ""
            return character
        is_blank = character.isspace()
        columns = TAB_COLUMNS - self._column % TAB_COLUMNS if character == "\t" else cell_len(character)
        broken = self._broken(width - columns, is_blank=is_blank) if self._column + columns > width else ""
        if broken and is_blank:  # the break stands for it
            return broken
        self._column += columns
        self._word = "" if is_blank else self._word + character
        return broken + character

    def _broken(self, room: int, *, is_blank: bool) -> str:
        """What begins a new line: with the word, unless it is at its end, fills the line, or needs more than `room`."""
        columns = cell_len(self._word)
        if is_blank or columns in (0, self._column) or columns > room:
            self._column, self._word = 0, ""
            return "\n"
        self._column = columns
        return TAKE_BACK.format(columns) + "\n" + self._word
