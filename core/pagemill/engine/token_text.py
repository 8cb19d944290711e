"""The bytes of every token, looked up once: a tokenizer may take a microsecond, this table a tenth.

Owns the tables; the step loop's thread alone reads and fills them. May not import backends.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Protocol

from pagemill.generation import SamplingParams


class TokenSource(Protocol):
    """What of a tokenizer is needed here."""

    def token_bytes(self, token_id: int) -> bytes: ...

    def is_special(self, token_id: int) -> bool: ...


class _Table(dict[int, bytes]):
    """Fills itself."""

    def __init__(
        self, tokenizer: TokenSource, skip_special_tokens: bool, shown: AbstractSet[int] = frozenset()
    ) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._shown = shown

    def __missing__(self, token_id: int) -> bytes:
        skip = self._skip_special_tokens and token_id not in self._shown and self._tokenizer.is_special(token_id)
        text = self[token_id] = b"" if skip else self._tokenizer.token_bytes(token_id)
        return text


class TokenText:
    """All ways of taking special tokens: as nothing, as their names, or some of them as their names."""

    def __init__(self, tokenizer: TokenSource) -> None:
        self._tokenizer = tokenizer
        self._with_special = _Table(tokenizer, False)
        self._without_special: dict[AbstractSet[int], _Table] = {}  # by those shown

    def lookup(self, sampling: SamplingParams) -> Callable[[int], bytes]:
        """The bytes that a token id adds to the text."""
        if not sampling.skip_special_tokens:
            return self._with_special.__getitem__
        shown = sampling.shown_special_tokens
        if shown not in self._without_special:
            self._without_special[shown] = _Table(self._tokenizer, True, shown)
        return self._without_special[shown].__getitem__
