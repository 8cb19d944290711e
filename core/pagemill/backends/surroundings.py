"""What a tokenizer puts around a text, and between the two of a pair: [CLS], [SEP] and the like. Owns no state."""

from collections.abc import Sequence
from typing import NamedTuple, Self

from pagemill.backends.base import Tokenizer
from pagemill.backends.embedder import EmbeddingInput

SAMPLE = "a"


class Surroundings(NamedTuple):
    """The tokens before and after a text's own; of a pair, `between` stands in addition before its second text."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    between: tuple[int, ...] = ()

    @classmethod
    def of(cls, tokenizer: Tokenizer, between: tuple[int, ...] = ()) -> Self:
        """Found by encoding a text with and without them: tokenizers have no other way to say."""
        bare = tokenizer.encode(SAMPLE, add_special=False, parse_special=False)
        whole = tokenizer.encode(SAMPLE, add_special=True, parse_special=False)
        for start in range(len(whole) - len(bare) + 1):
            if whole[start : start + len(bare)] == bare:
                return cls(tuple(whole[:start]), tuple(whole[start + len(bare) :]), between)
        return cls((), (), between)

    def pair(self, first: Sequence[int], second: Sequence[int]) -> EmbeddingInput:
        """Two texts as one: [CLS] first [SEP] second [SEP] in BERT's form, <s> first </s></s> second </s> in RoBERTa's,
        where there is one more between.
        """
        head = (*self.before, *first, *self.after, *self.between)
        return EmbeddingInput((*head, *second, *self.after), second_start=len(head))

    def cut(self, token_ids: tuple[int, ...], limit: int) -> tuple[int, ...]:
        """The first tokens, `limit` at most, still with what belongs behind a text if that was there. What is not
        longer stays as it is.
        """
        if len(token_ids) <= limit:
            return token_ids
        ending = self.after if self.after and token_ids[-len(self.after) :] == self.after else ()
        if len(self.before) + len(ending) >= limit:
            return token_ids[:limit]
        return token_ids[: limit - len(ending)] + ending
