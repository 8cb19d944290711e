"""Compiling formats for one model, by llguidance.

A `GrammarCompiler` owns the model's vocabulary as the library wants it, and the grammars that were compiled last. It
may be used from several threads at once, off the event loop: the vocabulary takes half a second, a grammar a
millisecond, a large one a second.
"""

from collections import OrderedDict
from functools import cached_property
from threading import Lock
from typing import Protocol

from llguidance import LLMatcher, LLTokenizer

from pagemill.errors import InvalidRequestError, UnsupportedParameterError
from pagemill.prompts.structured_output.diagnosis import explain
from pagemill.prompts.structured_output.formats import Format, sources
from pagemill.prompts.structured_output.lark import to_grammar
from pagemill.prompts.structured_output.matcher import CompiledGrammar


class VocabularySource(Protocol):
    """What of a tokenizer is needed here."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def eos_token_ids(self) -> frozenset[int]: ...

    def token_bytes(self, token_id: int) -> bytes: ...

    def is_special(self, token_id: int) -> bool: ...


class GrammarCompiler:
    """See the module. `max_source_bytes` is the most that the client's texts in one format may have together."""

    def __init__(self, vocabulary: VocabularySource, *, max_source_bytes: int, cache_size: int) -> None:
        self._source = vocabulary
        self._max_source_bytes = max_source_bytes
        self._cache_size = cache_size
        self._cache: OrderedDict[Format, CompiledGrammar] = OrderedDict()  # the one used last comes last
        self._lock = Lock()  # of the cache, and of making the vocabulary

    def cached(self, wanted: Format) -> CompiledGrammar | None:
        """A grammar that was compiled before; takes no time."""
        with self._lock:
            known = self._cache.get(wanted)
            if known is not None:
                self._cache.move_to_end(wanted)
            return known

    def compile(self, wanted: Format) -> CompiledGrammar:
        """The grammar of a format.

        Raises:
            InvalidRequestError: a schema, pattern or grammar is wrong, not supported, or too large; names the field,
                and in a schema the place.
        """
        known = self.cached(wanted)
        if known is not None:
            return known
        self._check_size(wanted)
        compiled = self._compile(wanted)
        with self._lock:
            self._cache[wanted] = compiled
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        return compiled

    def _check_size(self, wanted: Format) -> None:
        total = 0
        for part in sources(wanted):
            total += len(part.source.encode("utf-8", "replace"))
            if total > self._max_source_bytes:
                limit = f"at most {self._max_source_bytes} bytes (setting max_grammar_bytes)"
                raise InvalidRequestError(f"{part.field}: {limit}, got {total}", param=part.field)

    def _compile(self, wanted: Format) -> CompiledGrammar:
        with self._lock:
            vocabulary = self._vocabulary
        try:
            matcher = LLMatcher(vocabulary.tokenizer, to_grammar(wanted, vocabulary.special_tokens), log_level=0)
            problem = matcher.get_error()
        except ValueError as error:
            problem = str(error)
        if problem:
            raise explain(wanted, problem, vocabulary.tokenizer)
        grammar = CompiledGrammar(matcher)
        if not grammar.can_say_anything(self._source.eos_token_ids):
            field = next((part.field for part in sources(wanted)), None)
            raise InvalidRequestError(f"{field}: no output but an empty one is possible", param=field)
        return grammar

    @cached_property
    def _vocabulary(self) -> "_Vocabulary":
        return _Vocabulary(self._source)


class _Vocabulary:
    """All tokens of a model, for the library: the attributes are those that `LLTokenizer` reads."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, source: VocabularySource) -> None:
        ends = sorted(source.eos_token_ids)
        if not ends:
            raise UnsupportedParameterError("the model has no token that ends a reply, so no format can be held")
        self.tokens = [source.token_bytes(token_id) for token_id in range(source.vocab_size)]
        special = {token_id for token_id in range(source.vocab_size) if source.is_special(token_id)}
        self.special_token_ids = sorted(special.union(ends))  # text never holds them
        self.eos_token_id = ends[0]
        self.special_tokens = {
            self.tokens[token_id].decode("utf-8", "replace"): token_id
            for token_id in self.special_token_ids
            if self.tokens[token_id]
        }
        self.tokenizer = LLTokenizer(self, eos_token=ends)  # type: ignore[arg-type]  # it reads attributes only

    def __call__(self, text: bytes) -> list[int]:
        """For text that is to be in the usual tokens, which our grammars never ask for."""
        raise NotImplementedError("grammars are compiled with no_forcing")
