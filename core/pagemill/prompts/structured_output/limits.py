"""What a format may cost while an output is held to it. Owns no state, imports nothing."""

from typing import NamedTuple


class GrammarLimits(NamedTuple):
    """Of one output, which one thread computes between the steps of all. The defaults are those of the settings."""

    max_items: int = 5000  # of the parser, for a token
    max_fuel: int = 200_000  # of the lexer, for a token
    max_states: int = 50_000  # of the lexer, in all: a kilobyte or two each
    max_ms: float = 5.0  # of CPU time a token, on average
