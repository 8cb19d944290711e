"""Token ids to text, a token at a time.

A token may end within a UTF-8 character; its bytes are held until the character is whole. Bytes that can't become one
turn into U+FFFD, as in a whole decode. What is held when the output ends is the beginning of a character that was cut
off, and no text: clients get whole characters. Owns one sequence's undecoded bytes (at most 3). May not import
backends.
"""

import codecs
from collections.abc import Callable


class IncrementalDetokenizer:
    """The text of one sequence's output. `token_bytes` gives the bytes a token adds (empty: none)."""

    __slots__ = ("_decode", "_token_bytes")

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode

    def add(self, token_id: int) -> str:
        """The text that this token completes, perhaps none."""
        return self._decode(self._token_bytes(token_id))
