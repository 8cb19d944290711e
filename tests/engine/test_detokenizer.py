"""Text a token at a time equals text all at once."""

import codecs

from hypothesis import given
from hypothesis import strategies as st

from pagemill.engine.detokenizer import IncrementalDetokenizer


@given(st.binary(max_size=40))
def test_the_pieces_join_to_the_whole_decode_but_for_a_character_that_is_cut_off(data: bytes) -> None:
    detokenizer = IncrementalDetokenizer(lambda token_id: bytes([token_id]))
    text = "".join(detokenizer.add(byte) for byte in data)
    assert text == codecs.getincrementaldecoder("utf-8")(errors="replace").decode(data)
    assert data.decode("utf-8", errors="replace").removeprefix(text) in ("", "\ufffd")


@given(st.text(min_size=1, max_size=20), st.integers(0, 100))
def test_a_character_that_is_cut_off_is_no_text(text: str, at: int) -> None:
    data = text.encode("utf-8", errors="ignore")[:at]
    detokenizer = IncrementalDetokenizer(lambda token_id: bytes([token_id]))
    assert "".join(detokenizer.add(byte) for byte in data) == data.decode("utf-8", errors="ignore")


@given(st.text(max_size=20))
def test_no_piece_has_half_a_character(text: str) -> None:
    detokenizer = IncrementalDetokenizer(lambda token_id: bytes([token_id]))
    pieces = [detokenizer.add(byte) for byte in text.encode("utf-8", errors="ignore")]
    assert all("\ufffd" not in piece or "\ufffd" in text for piece in pieces)
