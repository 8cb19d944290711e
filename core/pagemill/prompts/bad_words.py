"""Words that an output may not have: `BadWords` is a `TokenConstraint` of tokens, alone or over that of a format.

A word is banned as the tokenizer writes it, at the beginning of a text and after a space, as vLLM bans it; written in
other tokens it can still come. Owns nothing but, in a matcher, the last tokens of one output. May not import a backend.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from pagemill.generation import TokenConstraint, TokenMatcher


class WordEncoder(Protocol):
    """What is needed of a `Tokenizer`."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class BadWords:
    """See the module."""

    mask: bytes  # of tokens, without the words of one token
    endings: Mapping[int, Sequence[tuple[int, ...]]]  # the longer words, by their last token but one
    base: TokenConstraint | None  # what else the output is held to

    @classmethod
    def of(cls, tokenizer: WordEncoder, words: Iterable[str], base: TokenConstraint | None = None) -> Self:
        """Tokenizes the words: many take their time."""
        endings: defaultdict[int, list[tuple[int, ...]]] = defaultdict(list)
        size = -(-tokenizer.vocab_size // 32) * 4  # as the masks of formats: a batch may have both
        mask = bytearray(((1 << tokenizer.vocab_size) - 1).to_bytes(size, "little"))
        for word in _spellings(tokenizer, words):
            if len(word) == 1:
                _ban(mask, word[0])
            else:
                endings[word[-2]].append(word)
        return cls(bytes(mask), endings, base)

    def matcher(self) -> "BadWordsMatcher":
        """One at the beginning of an output."""
        return BadWordsMatcher(self, None if self.base is None else self.base.matcher())


class BadWordsMatcher:
    """See `pagemill.generation.TokenMatcher`."""

    def __init__(self, words: BadWords, base: TokenMatcher | None) -> None:
        self._words = words
        self._base = base
        longest = max((len(word) for ending in words.endings.values() for word in ending), default=1)
        self._last: deque[int] = deque(maxlen=longest - 1)  # tokens of the output

    @property
    def may_end(self) -> bool:
        return self._base is None or self._base.may_end

    def allowed(self) -> bytes:
        mask = bytearray(self._words.mask if self._base is None else _both(self._base.allowed(), self._words.mask))
        if self._last:
            before = tuple(self._last)
            for word in self._words.endings.get(before[-1], ()):
                if before[1 - len(word) :] == word[:-1]:
                    _ban(mask, word[-1])
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


def _ban(mask: bytearray, token_id: int) -> None:
    mask[token_id >> 3] &= ~(1 << (token_id & 7))


def _both(mask: bytes, other: bytes) -> bytes:
    return (int.from_bytes(mask, "little") & int.from_bytes(other, "little")).to_bytes(len(mask), "little")
