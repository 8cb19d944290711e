"""Words that an output may not have: `BadWords` is a `TokenConstraint` of tokens, alone or over that of a format.

A word is banned as the tokenizer writes it, at the beginning of a text and after a space, as vLLM bans it; written in
other tokens it can still come. Owns nothing but, in a matcher, the last tokens of one output. May not import a backend.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Protocol

from pagemill.generation import TokenConstraint, TokenMatcher


class WordEncoder(Protocol):
    """What is needed of a `Tokenizer`."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]: ...


class BadWords:
    """See the module. `base` is what else the output is held to."""

    def __init__(self, tokenizer: WordEncoder, words: Iterable[str], base: TokenConstraint | None = None) -> None:
        """Tokenizes the words: many take their time."""
        self.base = base
        self.longest = 1  # tokens
        self.endings: defaultdict[int, list[tuple[int, ...]]] = defaultdict(list)  # words by their last token but one
        size = -(-tokenizer.vocab_size // 32) * 4  # as the masks of formats: a batch may have both
        mask = bytearray(((1 << tokenizer.vocab_size) - 1).to_bytes(size, "little"))
        for word in _spellings(tokenizer, words):
            if len(word) == 1:
                mask[word[0] >> 3] &= ~(1 << (word[0] & 7))
            else:
                self.longest = max(self.longest, len(word))
                self.endings[word[-2]].append(word)
        self.mask = bytes(mask)  # without the words of one token

    def matcher(self) -> "BadWordsMatcher":
        """One at the beginning of an output."""
        return BadWordsMatcher(self, None if self.base is None else self.base.matcher())


class BadWordsMatcher:
    """See `pagemill.generation.TokenMatcher`."""

    def __init__(self, words: BadWords, base: TokenMatcher | None) -> None:
        self._words = words
        self._base = base
        self._last: deque[int] = deque(maxlen=words.longest - 1)  # tokens of the output

    @property
    def may_end(self) -> bool:
        return self._base is None or self._base.may_end

    def allowed(self) -> bytes:
        mask = bytearray(self._words.mask if self._base is None else _both(self._base.allowed(), self._words.mask))
        if self._last:
            before = tuple(self._last)
            for word in self._words.endings.get(before[-1], ()):
                if before[1 - len(word) :] == word[:-1]:
                    mask[word[-1] >> 3] &= ~(1 << (word[-1] & 7))
        return bytes(mask)

    def advance(self, token_id: int) -> None:
        self._last.append(token_id)
        if self._base is not None:
            self._base.advance(token_id)


def _spellings(tokenizer: WordEncoder, words: Iterable[str]) -> list[tuple[int, ...]]:
    spellings: dict[tuple[int, ...], None] = {}
    for word in words:
        for text in (word.lstrip(), " " + word.lstrip()):
            spellings[tuple(tokenizer.encode(text, add_special=False, parse_special=False))] = None
    return [spelling for spelling in spellings if spelling]


def _both(mask: bytes, other: bytes) -> bytes:
    return (int.from_bytes(mask, "little") & int.from_bytes(other, "little")).to_bytes(len(mask), "little")
