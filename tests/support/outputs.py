"""Walking along compiled formats without an engine: is a text an output, and what would a random model say?"""

from random import Random
from typing import Any

from pagemill.backends.fake.tokenizer import EOS, FakeTokenizer
from pagemill.prompts.structured_output.compiler import GrammarCompiler
from pagemill.prompts.structured_output.limits import GrammarLimits
from pagemill.prompts.structured_output.matcher import CompiledGrammar

TOKENIZER = FakeTokenizer()


def byte_compiler(*, max_source_bytes: int = 100_000, cache_size: int = 8, **limits: Any) -> GrammarCompiler:
    """One for the fake backend's vocabulary: a token a byte, and special ones."""
    further = GrammarLimits(**limits)
    return GrammarCompiler(TOKENIZER, max_source_bytes=max_source_bytes, cache_size=cache_size, limits=further)


def allowed(mask: bytes) -> list[int]:
    """The tokens of a mask."""
    return [token_id for token_id in range(TOKENIZER.vocab_size) if mask[token_id >> 3] >> (token_id & 7) & 1]


def num_accepted(grammar: CompiledGrammar, text: str, *, parse_special: bool = True) -> int:
    """How many of the text's tokens are allowed, one after the other."""
    matcher = grammar.matcher()
    token_ids = TOKENIZER.encode(text, add_special=False, parse_special=parse_special)
    for index, token_id in enumerate(token_ids):
        if token_id not in allowed(matcher.allowed()):
            return index
        matcher.advance(token_id)
    return len(token_ids)


def accepts(grammar: CompiledGrammar, text: str, *, parse_special: bool = True) -> bool:
    """Whether the text is a whole output."""
    matcher = grammar.matcher()
    for token_id in TOKENIZER.encode(text, add_special=False, parse_special=parse_special):
        if token_id not in allowed(matcher.allowed()):
            return False
        matcher.advance(token_id)
    return EOS in allowed(matcher.allowed())


def random_output(grammar: CompiledGrammar, seed: int, max_tokens: int = 300) -> str | None:
    """What tokens drawn at random say; strings and the output itself are rather ended. None: it came to no end."""
    random, matcher, said = Random(seed), grammar.matcher(), bytearray()
    for _ in range(max_tokens):
        choices = allowed(matcher.allowed())
        ends = [token_id for token_id in (EOS, ord('"')) if token_id in choices]
        token_id = random.choice(ends if ends and random.random() < 0.3 else choices)
        if token_id == EOS:
            return said.decode()
        matcher.advance(token_id)
        said += TOKENIZER.token_bytes(token_id)
    return None
