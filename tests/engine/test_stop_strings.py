"""Stop strings in pieces: the same text out, whatever the pieces."""

from hypothesis import given
from hypothesis import strategies as st

from pagemill.engine.stop_strings import StopStrings

letters = st.text("abc", max_size=12)


def feed(stops: tuple[str, ...], pieces: list[str], *, include_stop: bool = False) -> tuple[str, str | None]:
    watcher = StopStrings(stops, include_stop=include_stop)
    out = ""
    for piece in pieces:
        match = watcher.add(piece)
        out += match.text
        if match.stop is not None:
            return out, match.stop
    return out + watcher.finish(), None


@given(st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.lists(letters, max_size=8), st.booleans())
def test_the_pieces_do_not_matter(stops: list[str], pieces: list[str], include_stop: bool) -> None:
    characters = list("".join(pieces))
    assert feed(tuple(stops), pieces, include_stop=include_stop) == feed(
        tuple(stops), characters, include_stop=include_stop
    )


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3), st.text("ab", max_size=20))
def test_the_stop_that_ends_first_cuts_the_text(stops: list[str], text: str) -> None:
    out, found = feed(tuple(stops), list(text))
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    if not ends:
        assert (out, found) == (text, None)
    else:
        assert found is not None
        assert text.startswith(out + found)
        assert len(out) + len(found) == min(ends)


def test_nothing_longer_than_the_stop_is_held_back() -> None:
    watcher = StopStrings(("END",))
    assert watcher.add("so EN").text == "so "
    assert watcher.add("ough").text == "ENough"


def test_an_included_stop_is_given_out_and_nothing_is_held() -> None:
    watcher = StopStrings(("END",), include_stop=True)
    assert watcher.add("so EN") == ("so EN", None)
    assert watcher.add("D.") == ("D", "END")
