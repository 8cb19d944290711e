"""What comes of a compiled format: the masks of tokens that may come next, along one sequence's output.

A `CompiledGrammar` is shared and never changes; a `GrammarMatcher` belongs to one sequence. They are the
`TokenConstraint` and the `TokenMatcher` of `pagemill.generation`.
"""

from collections.abc import Set as AbstractSet

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from pagemill.errors import StructuredOutputError

MAX_LEXER_STATES = 50_000  # of one matcher, a kilobyte or two each


def start(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    """The library's matcher of a grammar, at the beginning of an output. What is wrong with the grammar, it tells."""
    limits = LLParserLimits(max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)
    return LLMatcher(tokenizer, grammar, log_level=0, limits=limits)


class CompiledGrammar:
    """A format, compiled for one model."""

    def __init__(self, matcher: LLMatcher) -> None:
        matcher.compute_bitmask()  # what the library finds out on the way, all copies know
        self._matcher = matcher

    def matcher(self) -> "GrammarMatcher":
        """One at the beginning of an output."""
        return GrammarMatcher(self._matcher.deep_copy())

    def can_say_anything(self, eos_token_ids: AbstractSet[int]) -> bool:
        """Whether any output but an empty one is possible."""
        mask = bytearray(self._matcher.compute_bitmask())
        for token_id in eos_token_ids:
            mask[token_id >> 3] &= ~(1 << (token_id & 7))
        return any(mask)


class GrammarMatcher:
    """See `pagemill.generation.TokenMatcher`."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    @property
    def may_end(self) -> bool:
        return self._matcher.is_accepting()

    def allowed(self) -> bytes:
        mask = self._matcher.compute_bitmask()
        self._check()
        return mask

    def advance(self, token_id: int) -> None:
        if not self._matcher.consume_token(token_id):
            self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            problem = self._matcher.get_error().partition("\n")[0]
            raise StructuredOutputError(f"the output's format can't be held any longer: {problem}")
