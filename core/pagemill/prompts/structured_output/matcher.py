"""What comes of a compiled format: the masks of tokens that may come next, along one sequence's output.

A `CompiledGrammar` is shared; a `GrammarMatcher` belongs to one sequence. They are the `TokenConstraint` and the
`TokenMatcher` of `pagemill.generation`. Masks are computed between the steps of all
sequences, so what one may cost is limited: a token by the library's own limits, an output by a clock.
"""

import re
import time
from collections.abc import Set as AbstractSet

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from pagemill.errors import StructuredOutputError
from pagemill.prompts.structured_output.limits import GrammarLimits

UNCOUNTED_TOKENS = 20  # worth of time that an output has beforehand: the first masks find out most
SETTINGS = {  # that raise a limit, by what the library says when it is reached
    "max_grammar_items": re.compile(r"too many items|current row has \d+ items", re.IGNORECASE),
    "max_grammar_fuel": re.compile(r"too many expressions|lexer configuration|lexer precomputation"),
    "max_grammar_states": re.compile(r"too many states"),
}
DEFAULTS = GrammarLimits()


def start(tokenizer: LLTokenizer, grammar: str, limits: GrammarLimits = DEFAULTS) -> LLMatcher:
    """The library's matcher of a grammar, at the beginning of an output. What is wrong with the grammar, it tells."""
    bounds = LLParserLimits(
        step_max_items=limits.max_items,
        max_items_in_row=max(limits.max_items * 2 // 5, 1),  # as the library's own have about this proportion
        step_lexer_fuel=limits.max_fuel,
        initial_lexer_fuel=5 * limits.max_fuel,  # as with the library's own
        max_lexer_states=limits.max_states,
        verbose_errors=False,
    )
    return LLMatcher(tokenizer, grammar, log_level=0, limits=bounds)


class CompiledGrammar:
    """A format, compiled for one model. Its matchers have one lexer, so when that fails in one output, it does in all:
    the grammar `is_spent`, and the next output needs another.
    """

    def __init__(self, matcher: LLMatcher, limits: GrammarLimits) -> None:
        self.is_spent = False  # only ever becomes True, on whichever thread
        matcher.compute_bitmask()  # what the library finds out on the way, all copies know
        self._matcher = matcher
        self._limits = limits

    def matcher(self) -> "GrammarMatcher":
        """One at the beginning of an output."""
        return GrammarMatcher(self, self._matcher.deep_copy(), self._limits.max_ms)

    def can_say_anything(self, eos_token_ids: AbstractSet[int]) -> bool:
        """Whether any output but an empty one is possible."""
        mask = bytearray(self._matcher.compute_bitmask())
        for token_id in eos_token_ids:
            mask[token_id >> 3] &= ~(1 << (token_id & 7))
        return any(mask)


class GrammarMatcher:
    """See `pagemill.generation.TokenMatcher`."""

    def __init__(self, grammar: CompiledGrammar, matcher: LLMatcher, max_ms: float) -> None:
        self._grammar = grammar
        self._matcher = matcher
        self._max_ms = max_ms  # a token, on average
        self._left_ms = max_ms * UNCOUNTED_TOKENS

    @property
    def may_end(self) -> bool:
        return self._matcher.is_accepting()

    def allowed(self) -> bytes:
        began = time.thread_time()
        mask = self._matcher.compute_bitmask()
        self._check()
        self._left_ms += self._max_ms
        self._spend(began)
        return mask

    def advance(self, token_id: int) -> None:
        began = time.thread_time()
        if not self._matcher.consume_token(token_id):
            self._check()
        self._spend(began)

    def _check(self) -> None:
        if self._matcher.is_error():
            self._grammar.is_spent = True
            problem = reworded(self._matcher.get_error().partition("\n")[0])
            raise StructuredOutputError(f"the output's format can't be held any longer: {problem}")

    def _spend(self, began: float) -> None:
        """CPU time of this thread, so that a busy machine does not count."""
        self._left_ms -= (time.thread_time() - began) * 1e3
        if self._left_ms < 0:
            raise StructuredOutputError(
                f"the output's format takes more than {self._max_ms:g} ms a token (setting max_grammar_ms)"
            )


def reworded(problem: str) -> str:
    """What the library said, with the setting that it is about."""
    setting = next((setting for setting, said in SETTINGS.items() if said.search(problem)), None)
    return problem if setting is None else f"{problem} (setting {setting})"
