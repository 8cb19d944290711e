"""A model's tokens as llguidance wants them, to compile formats with. Owns what the library keeps of them.

Imports llguidance, so it is imported when the first format is compiled.
"""

from typing import TYPE_CHECKING

from llguidance import LLTokenizer

from pagemill.errors import InvalidRequestError, UnsupportedParameterError
from pagemill.prompts.structured_output.diagnosis import check_holdable, explain
from pagemill.prompts.structured_output.formats import Format, sources
from pagemill.prompts.structured_output.lark import to_grammar
from pagemill.prompts.structured_output.limits import GrammarLimits
from pagemill.prompts.structured_output.matcher import CompiledGrammar, reworded, start

if TYPE_CHECKING:
    from pagemill.prompts.structured_output.compiler import TokenSource


class Vocabulary:
    """See the module. Safe from several threads."""

    def __init__(self, source: "TokenSource", limits: GrammarLimits) -> None:
        """Raises UnsupportedParameterError: the model has no token that ends a reply."""
        tokens = _Tokens(source)
        self._limits = limits
        self._eos_token_ids = source.eos_token_ids
        self._tokenizer = LLTokenizer(tokens, eos_token=sorted(source.eos_token_ids))  # type: ignore[arg-type]  # it reads attributes only
        self._special_tokens = {
            tokens.tokens[token_id].decode("utf-8", "replace"): token_id
            for token_id in tokens.special_token_ids
            if tokens.tokens[token_id]
        }

    def compile(self, wanted: Format) -> CompiledGrammar:
        """Raises InvalidRequestError, as `GrammarCompiler.compile`."""
        try:
            check_holdable(wanted)
            matcher = start(self._tokenizer, to_grammar(wanted, self._special_tokens), self._limits)
            problem = matcher.get_error()
        except ValueError as error:
            problem = str(error)
        if problem:
            raise explain(wanted, problem, self._tokenizer)
        grammar = CompiledGrammar(matcher, self._limits)
        field = next((part.field for part in sources(wanted)), None)
        if matcher.is_error():
            problem = reworded(matcher.get_error().partition("\n")[0])
            raise InvalidRequestError(f"{field}: no output can be begun: {problem}", param=field)
        if not grammar.can_say_anything(self._eos_token_ids):
            raise InvalidRequestError(f"{field}: the model has no tokens for any output but an empty one", param=field)
        return grammar


class _Tokens:
    """The attributes that `LLTokenizer` reads. Special tokens are no text."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, source: "TokenSource") -> None:
        ends = source.eos_token_ids
        if not ends:
            raise UnsupportedParameterError("the model has no token that ends a reply, so no format can be held")
        token_ids = range(source.vocab_size)
        self.eos_token_id = min(ends)
        self.tokens = [source.token_bytes(token_id) for token_id in token_ids]
        self.special_token_ids = [token_id for token_id in token_ids if token_id in ends or source.is_special(token_id)]

    def __call__(self, text: bytes) -> list[int]:
        """For text that is to be in the usual tokens, which our grammars never ask for."""
        raise NotImplementedError("grammars are compiled with no_forcing")
