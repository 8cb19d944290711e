"""Text a token at a time equals text all at once."""

from hypothesis import given
from hypothesis import strategies as st

from pagemill.engine.detokenizer import IncrementalDetokenizer


@given(st.binary(max_size=40))
def test_the_pieces_join_to_the_whole_decode(data: bytes) -> None:
    detokenizer = IncrementalDetokenizer(lambda token_id: bytes([token_id]))
    text = "".join(detokenizer.add(byte) for byte in data) + detokenizer.finish()
    assert text == data.decode("utf-8", errors="replace")


@given(st.text(max_size=20))
def test_no_piece_has_half_a_character(text: str) -> None:
    detokenizer = IncrementalDetokenizer(lambda token_id: bytes([token_id]))
    pieces = [detokenizer.add(byte) for byte in text.encode("utf-8", errors="ignore")]
    assert all("\ufffd" not in piece or "\ufffd" in text for piece in pieces)
