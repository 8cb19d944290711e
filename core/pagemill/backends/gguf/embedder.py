"""The embedder: embedding models and cross-encoders on llama.cpp. Owns the model and its context.

`embed` and `close` belong to the embedding loop's thread.
"""

import math
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from logging import getLogger

from pagemill.backends.base import ModelInfo
from pagemill.backends.embedder import EmbeddingInput, EmbeddingTask, Vector
from pagemill.backends.gguf.embedding_context import EmbeddingContext, EmbeddingLimits, create_embedding_context
from pagemill.backends.gguf.kv_size import kv_size, padded
from pagemill.backends.gguf.model import Model
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.backends.gguf.pooling import NAMES, RANK, RERANK_TEMPLATE, Pooling, head_tensors
from pagemill.backends.gguf.tokenizer import GGUFTokenizer
from pagemill.backends.pair_format import PairFormat, SurroundedPairs, TemplatePairs
from pagemill.backends.surroundings import Surroundings
from pagemill.errors import ModelLoadError

logger = getLogger(__name__)

DEFAULT_MAX_NUM_SEQS = 64
WORDPIECE = 3  # enum llama_vocab_type
POOLER = "cls.weight"
YES_NO = ["yes", "no"]  # the classes of Qwen3-Reranker, whose probabilities llama.cpp computes


class GGUFEmbedder:
    """See `pagemill.backends.embedder.Embedder`."""

    def __init__(
        self,
        model: Model,
        tokenizer: GGUFTokenizer,
        context: EmbeddingContext,
        pooling: Pooling,
        limits: EmbeddingLimits,
        options: GGUFOptions,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._context = context
        self._limits = limits
        self._max_num_batched_tokens = options.max_num_batched_tokens
        self._task: EmbeddingTask = "score" if pooling.kind == RANK else "embed"
        kv_bytes = kv_size(model, options.kv_type).bytes_per_token * padded(limits.max_tokens) if pooling.causal else 0
        self._info = model.info(kv_bytes)
        self._surroundings = Surroundings.of(tokenizer, _between(model))
        template = model.text(RERANK_TEMPLATE)
        self._pairs: PairFormat = (
            SurroundedPairs(tokenizer, self._surroundings)
            if template is None
            else TemplatePairs.parse(tokenizer, template)
        )

    @classmethod
    def of(cls, model: Model, pooling: Pooling, options: GGUFOptions) -> "GGUFEmbedder":
        """Of a loaded model, which is the embedder's from now on, and closed if this fails.

        Raises:
            ModelLoadError: names the file and the reason.
        """
        with ExitStack() as opened:
            opened.callback(model.close)
            if pooling.kind == RANK:
                _check_classes(model)
            limits = _limits(model, pooling, options)
            context = create_embedding_context(model, pooling, limits, options)
            opened.callback(context.close)  # before the model's
            embedder = cls(model, GGUFTokenizer(model.library, model.vocab), context, pooling, limits, options)
            opened.pop_all()
        logger.info(
            "%s embeds: pooling %s, inputs of up to %d tokens", model.path, NAMES[pooling.kind], limits.max_model_len
        )
        return embedder

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def tokenizer(self) -> GGUFTokenizer:
        return self._tokenizer

    @property
    def task(self) -> EmbeddingTask:
        return self._task

    @property
    def max_model_len(self) -> int:
        return self._limits.max_model_len

    @property
    def max_num_seqs(self) -> int:
        return self._limits.max_num_seqs

    @property
    def max_num_batched_tokens(self) -> int:
        return self._max_num_batched_tokens

    @property
    def surroundings(self) -> Surroundings:
        return self._surroundings

    @property
    def pairs(self) -> PairFormat:
        return self._pairs

    @property
    def prompt(self) -> str:
        return ""  # such files have no place for one

    def embed(self, inputs: Sequence[EmbeddingInput]) -> list[Vector]:
        vectors = self._context.embed([item.token_ids for item in inputs])
        return [_score(vector) for vector in vectors] if self._task == "score" else vectors

    def close(self) -> None:
        self._tokenizer.close()
        self._context.close()
        self._model.close()


def _limits(model: Model, pooling: Pooling, options: GGUFOptions) -> EmbeddingLimits:
    length = options.max_model_len or options.chosen_model_len(model.context_length)
    trained = model.context_length or options.preferred_model_len
    if length > trained:
        message = f"max_model_len {length} is beyond the {trained} tokens of {model.path}"
        if not pooling.causal:  # it has no embedding for further positions
            raise ModelLoadError(message)
        logger.warning(message)
    return EmbeddingLimits(
        length, options.max_num_seqs or DEFAULT_MAX_NUM_SEQS, max(options.max_num_batched_tokens, length)
    )


def _between(model: Model) -> tuple[int, ...]:
    """What stands between the end of a pair's first text and the beginning of its second: nothing in BERT's form, in
    RoBERTa's one separator more.
    """
    c, vocab = model.library.c, model.vocab
    if c.llama_vocab_type(vocab) == WORDPIECE or not c.llama_vocab_get_add_sep(vocab):
        return ()
    return (int(c.llama_vocab_sep(vocab)),)


def _num_token_types(model: Model) -> int:
    count = model.text("tokenizer.ggml.token_type_count") or "1"
    return int(count) if count.isdigit() else 1


def _check_classes(model: Model) -> None:
    """Refuse heads whose first value is no score.

    Raises:
        ModelLoadError: it tells other classes apart than "yes" and "no", or lacks a part.
    """
    c = model.library.c
    count = int(c.llama_model_n_cls_out(model.handle))
    labels = [(c.llama_model_cls_label(model.handle, index) or b"").decode() for index in range(count)]
    if count != 1 and labels != YES_NO:
        raise ModelLoadError(
            f"can't serve {model.path}: it tells {count} classes apart ({labels}); what scores pairs has one, "
            f"or {YES_NO}"
        )
    if model.architecture == "bert" and POOLER not in head_tensors(model):
        raise ModelLoadError(
            f"can't serve {model.path}: it scores pairs, but lacks the layer before its classes ({POOLER}), which "
            "llama.cpp's converter leaves out of BERT's: the scores would be wrong; serve the model's folder instead"
        )
    if model.architecture == "bert" and _num_token_types(model) > 1:
        logger.warning("%s tells a pair's texts apart by types of tokens, which llama.cpp does not", model.path)


def _score(values: Vector) -> Vector:
    """What the classification head says, between 0 and 1: of two classes llama.cpp gives the probabilities."""
    score = 1.0 / (1.0 + math.exp(-values[0])) if len(values) == 1 else values[0]
    return memoryview(array("f", [score]))
