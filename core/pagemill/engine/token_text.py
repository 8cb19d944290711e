"""The bytes of every token, looked up once: a tokenizer may take a microsecond, this table a tenth.

Owns the two tables; the step loop's thread alone reads and fills them. May not import backends.
"""

from collections.abc import Callable
from typing import Protocol


class TokenSource(Protocol):
    """What of a tokenizer is needed here."""

    def token_bytes(self, token_id: int) -> bytes: ...

    def is_special(self, token_id: int) -> bool: ...


class _Table(dict[int, bytes]):
    """Fills itself."""

    def __init__(self, tokenizer: TokenSource, skip_special_tokens: bool) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens

    def __missing__(self, token_id: int) -> bytes:
        skip = self._skip_special_tokens and self._tokenizer.is_special(token_id)
        text = self[token_id] = b"" if skip else self._tokenizer.token_bytes(token_id)
        return text


class TokenText:
    """Both ways of taking special tokens: as nothing, and as their names."""

    def __init__(self, tokenizer: TokenSource) -> None:
        self._without_special = _Table(tokenizer, True)
        self._with_special = _Table(tokenizer, False)

    def lookup(self, skip_special_tokens: bool) -> Callable[[int], bytes]:
        """The bytes that a token id adds to the text."""
        return (self._without_special if skip_special_tokens else self._with_special).__getitem__
