"""A model that is loaded: its engine, and what goes with it for making prompts and holding outputs to formats.

Owned by the pool. May not import a backend, HTTP or the dialects; imports the rest when it is first needed.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from pagemill.store.references import ModelReference

if TYPE_CHECKING:
    from pagemill.backends.base import ModelInfo, Tokenizer
    from pagemill.engine.embedding_engine import EmbeddingEngine
    from pagemill.engine.engine import Engine
    from pagemill.prompts.chat_template import ChatTemplate
    from pagemill.prompts.message_format import MessageFormat
    from pagemill.prompts.structured_output.compiler import GrammarCompiler
    from pagemill.prompts.structured_output.limits import GrammarLimits


@dataclass(slots=True)
class LoadedModel:
    """A model that serves requests through its engine."""

    reference: ModelReference
    engine: "Engine | EmbeddingEngine"
    chat_template: "ChatTemplate | None"  # none of a model that makes embeddings
    loaded_at: datetime  # aware, UTC
    load_duration_s: float
    max_grammar_bytes: int = 128 * 1024
    grammar_cache_size: int = 64
    grammar_limits: "GrammarLimits | None" = None  # None: its defaults
    _grammars: "GrammarCompiler | None" = field(default=None, init=False)
    _marker_ids: "dict[MessageFormat, frozenset[int]]" = field(default_factory=dict, init=False)

    @property
    def name(self) -> str:
        """The name that is reported to clients."""
        return self.reference.name

    @property
    def embeds(self) -> bool:
        """Whether it makes embeddings or scores."""
        return hasattr(self.engine, "embed")  # known without importing what such models need

    @property
    def embedding_engine(self) -> "EmbeddingEngine | None":
        """The engine of a model that makes embeddings or scores."""
        from pagemill.engine.embedding_engine import EmbeddingEngine

        return self.engine if isinstance(self.engine, EmbeddingEngine) else None

    @property
    def info(self) -> "ModelInfo":
        return self.engine.info

    @property
    def tokenizer(self) -> "Tokenizer":
        return self.engine.tokenizer

    @property
    def grammars(self) -> "GrammarCompiler":
        """What compiles the formats that outputs are held to. Made when it is first asked for."""
        if self._grammars is None:
            from pagemill.prompts.structured_output.compiler import GrammarCompiler
            from pagemill.prompts.structured_output.limits import GrammarLimits

            self._grammars = GrammarCompiler(
                self.tokenizer,
                max_source_bytes=self.max_grammar_bytes,
                cache_size=self.grammar_cache_size,
                limits=self.grammar_limits or GrammarLimits(),
            )
        return self._grammars

    def marker_ids(self, message_format: "MessageFormat") -> frozenset[int]:
        """The special tokens by which a parser of answers in the format goes."""
        if message_format not in self._marker_ids:
            markers = message_format.markers()
            encoded = (self.tokenizer.encode(marker, add_special=False, parse_special=True) for marker in markers)
            special = (ids[0] for ids in encoded if len(ids) == 1 and self.tokenizer.is_special(ids[0]))
            self._marker_ids[message_format] = frozenset(special)
        return self._marker_ids[message_format]
