"""Lines broken between words, as a terminal shows them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from pagemill.cli.word_wrap import WordWrap

WIDTH = 11  # of which the last is left free


def screen(*pieces: str) -> list[str]:
    """What a terminal shows after the pieces, each written on its own."""
    lines = [""]

    def write(text: str) -> None:
        while text:
            if text.startswith("\x1b["):
                columns, _, text = text[2:].partition("D\x1b[K")
                while columns != "0":
                    columns = str(int(columns) - cell_len(lines[-1][-1]))
                    lines[-1] = lines[-1][:-1]
            elif text.startswith("\n"):
                lines.append("")
                text = text[1:]
            else:
                lines[-1] += text[0]
                text = text[1:]

    wrap = WordWrap(write, lambda: WIDTH)
    for piece in pieces:
        wrap(piece)
    return lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one two", ["one two"]),
        ("one two three four", ["one two ", "three four"]),
        ("0123456789 next", ["0123456789", "next"]),
        ("0123456789abc de", ["0123456789", "abc de"]),
        ("a 0123456789abc", ["a ", "0123456789", "abc"]),
        ("one\ntwo three four", ["one", "two three ", "four"]),
        ("\n\n", ["", "", ""]),
        ("one\tthree", ["one\t", "three"]),
        ("\u4e2d\u6587\u5b57\u7b26\u4e32\u4e2d", ["\u4e2d\u6587\u5b57\u7b26\u4e32", "\u4e2d"]),
        (" a\u4e2da\u4e2da\u4e2d\u4e2d", [" a\u4e2da\u4e2da\u4e2d", "\u4e2d"]),
        ("ab \u4e2d\u6587\u5b57\u7b26\u4e32", ["ab ", "\u4e2d\u6587\u5b57\u7b26\u4e32"]),
    ],
)
def test_lines_are_broken_between_words(text: str, lines: list[str]) -> None:
    assert screen(text) == lines


@given(st.lists(st.text(alphabet="ab \n\u4e2d", max_size=12), max_size=8))
def test_no_line_is_too_wide_no_letter_is_lost_and_cuts_change_nothing(pieces: list[str]) -> None:
    text = "".join(pieces)
    lines = screen(*pieces)
    assert lines == screen(text)
    assert all(cell_len(line) < WIDTH for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
