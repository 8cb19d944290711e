"""Compiling formats for one model, off the event loop, with a cache.

A `GrammarCompiler` owns the grammars that were compiled last, and the two threads that compile. It imports the library
that does the work on them, when the first format comes.
"""

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock, stack_size
from typing import TYPE_CHECKING, Protocol

from pagemill.errors import InvalidRequestError, UnsupportedParameterError
from pagemill.prompts.structured_output.formats import Format, sources
from pagemill.prompts.structured_output.limits import GrammarLimits

if TYPE_CHECKING:
    from pagemill.prompts.structured_output.matcher import CompiledGrammar
    from pagemill.prompts.structured_output.vocabulary import Vocabulary

NUM_THREADS = 2
# The library recurses along chains of rules and references, kilobytes a link: in the usual 8 MiB, one of two thousand
# would end the process. This holds the longest that fits into `max_source_bytes`; what is not used takes no memory.
STACK_BYTES = 256 * 2**20
DEFAULTS = GrammarLimits()


class TokenSource(Protocol):
    """What of a tokenizer is needed here."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def eos_token_ids(self) -> frozenset[int]: ...

    def token_bytes(self, token_id: int) -> bytes: ...

    def is_special(self, token_id: int) -> bool: ...


class GrammarCompiler:
    """See the module. May be used from several threads at once. A model's vocabulary takes half a second, a grammar a
    millisecond, a large one a second.
    """

    def __init__(
        self, tokens: TokenSource, *, max_source_bytes: int, cache_size: int, limits: GrammarLimits = DEFAULTS
    ) -> None:
        """`max_source_bytes` is the most that the texts of one format (schemas, patterns) may have together."""
        self._tokens = tokens
        self._limits = limits
        self._max_source_bytes = max_source_bytes
        self._cache_size = cache_size
        self._cache: OrderedDict[Format, CompiledGrammar] = OrderedDict()  # the one used last comes last
        self._lock = Lock()  # of the cache
        self._vocabulary: Vocabulary | None = None
        self._vocabulary_lock = Lock()
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="compile-format")

    def cached(self, wanted: Format) -> "CompiledGrammar | None":
        """A grammar that was compiled before; takes no time."""
        with self._lock:
            known = self._cache.get(wanted)
            if known is None or known.is_spent:
                return None
            self._cache.move_to_end(wanted)
            return known

    def submit(self, wanted: Format) -> "Future[CompiledGrammar]":
        """Compile on a thread of our own."""
        before = stack_size(STACK_BYTES)
        try:
            return self._threads.submit(self.compile, wanted)  # which may start a thread
        finally:
            stack_size(before)

    def compile(self, wanted: Format) -> "CompiledGrammar":
        """The grammar of a format, compiled here: what comes from clients is for `submit`.

        Raises:
            InvalidRequestError: a schema, pattern or grammar is wrong, not supported, or too large; names the field,
                and in a schema the place.
        """
        known = self.cached(wanted)
        if known is not None:
            return known
        self._check_size(wanted)
        compiled = self._vocabulary_of_model().compile(wanted)
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

    def _vocabulary_of_model(self) -> "Vocabulary":
        with self._vocabulary_lock:
            if self._vocabulary is None:
                try:
                    from pagemill.prompts.structured_output.vocabulary import Vocabulary
                except ImportError as error:
                    message = f"structured output needs llguidance: pip install llguidance ({error})"
                    raise UnsupportedParameterError(message) from error
                self._vocabulary = Vocabulary(self._tokens, self._limits)
            return self._vocabulary
