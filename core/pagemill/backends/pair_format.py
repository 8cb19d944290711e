"""How a model takes two texts as one input: with special tokens around them and between, or within a template's text.

Owns no state. Texts never come to be special tokens.
"""

from typing import NamedTuple, Protocol, Self

from pagemill.backends.base import Tokenizer
from pagemill.backends.embedder import EmbeddingInput
from pagemill.backends.surroundings import Surroundings
from pagemill.errors import ModelLoadError

QUERY, DOCUMENT = "{query}", "{document}"  # where a template has the texts


class PairFormat(Protocol):
    """Safe to call from several threads."""

    def encode(self, first: str, second: str, keep: int | None) -> EmbeddingInput | None:
        """Two texts as one input, of the second as much as `keep` tokens leave room for. None: they leave none."""
        ...


class SurroundedPairs(NamedTuple):
    """As cross-encoders of the BERT family have it."""

    tokenizer: Tokenizer
    surroundings: Surroundings

    def encode(self, first: str, second: str, keep: int | None) -> EmbeddingInput | None:
        head, tail = (self.tokenizer.encode(text, add_special=False, parse_special=False) for text in (first, second))
        whole = self.surroundings.pair(head, tail)
        excess = 0 if keep is None else len(whole.token_ids) - keep
        if excess <= 0:
            return whole
        return self.surroundings.pair(head, tail[:-excess]) if excess < len(tail) else None


class TemplatePairs(NamedTuple):
    """As decoders have it that are asked whether a document answers a query. Between the tokens `before` and `after` a
    pair is tokenized in one piece, since its parts' tokens may join.
    """

    tokenizer: Tokenizer
    before: tuple[int, ...]  # up to the last special one before the first text
    opening: str
    between: str
    after: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer, before: str, between: str, after: str) -> Self:
        """Of a template's text before, between and after the two.

        Raises:
            ModelLoadError: a special token stands between them, which is not supported.
        """
        opening, middle, closing = (
            tokenizer.encode(text, add_special=False, parse_special=True) for text in (before, between, after)
        )
        if any(map(tokenizer.is_special, middle)):
            raise ModelLoadError(f"the template for pairs has special tokens between the two texts: {between!r}")
        start = max((index + 1 for index, token in enumerate(opening) if tokenizer.is_special(token)), default=0)
        text = b"".join(map(tokenizer.token_bytes, opening[start:])).decode(errors="replace")
        return cls(tokenizer, tuple(opening[:start]), text, between, tuple(closing))

    @classmethod
    def parse(cls, tokenizer: Tokenizer, template: str) -> Self:
        """Of a template with `{query}` and then `{document}` in it.

        Raises:
            ModelLoadError: it has not; or as `of`.
        """
        before, query, rest = template.partition(QUERY)
        between, document, after = rest.partition(DOCUMENT)
        if not query or not document:
            raise ModelLoadError(f"the template for pairs has no {QUERY} before a {DOCUMENT}: {template!r}")
        return cls.of(tokenizer, before, between, after)

    def encode(self, first: str, second: str, keep: int | None) -> EmbeddingInput | None:
        start = self.opening + first + self.between
        body = self.tokenizer.encode(start + second, add_special=False, parse_special=False)
        excess = 0 if keep is None else len(self.before) + len(body) + len(self.after) - keep
        if excess > 0:
            num_first = len(self.tokenizer.encode(start, add_special=False, parse_special=False))
            if excess >= len(body) - num_first:
                return None
            body = body[:-excess]
        return EmbeddingInput((*self.before, *body, *self.after))
