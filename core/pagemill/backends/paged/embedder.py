"""The embedder: encoders of the BERT family, and decoders of any family that we know, on PyTorch. Owns the model.

`embed` and `close` belong to the embedding loop's thread.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pagemill.backends.base import ModelInfo
from pagemill.backends.embedder import EmbeddingInput, EmbeddingTask, Vector
from pagemill.backends.paged.tokenizer import PagedTokenizer
from pagemill.backends.pair_format import PairFormat, SurroundedPairs
from pagemill.backends.surroundings import SAMPLE, Surroundings
from pagemill.errors import BackendError


class EmbeddingLimits(NamedTuple):
    """What one step holds. One input alone may have more than `max_num_batched_tokens`, up to `max_model_len`."""

    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int

    @property
    def max_step_tokens(self) -> int:
        """The most tokens that a step may come to."""
        return max(self.max_model_len, self.max_num_batched_tokens)


class PooledModel(Protocol):
    """Weights on a device, and the arithmetic from tokens to one row for each input."""

    def __call__(self, inputs: Sequence[EmbeddingInput]) -> Tensor:
        """`[num_inputs, num_values]` float32, on any device. The inputs come in order of their lengths."""
        ...


class PagedEmbedder:
    """See `pagemill.backends.embedder.Embedder`."""

    def __init__(
        self,
        model: PooledModel,
        tokenizer: PagedTokenizer,
        info: ModelInfo,
        limits: EmbeddingLimits,
        task: EmbeddingTask,
        pairs: PairFormat | None = None,  # None: as the tokenizer has them
        prompt: str = "",
    ) -> None:
        self._model: PooledModel | None = model
        self._tokenizer = tokenizer
        self._info = info
        self._limits = limits
        self._task = task
        self._prompt = prompt
        self._surroundings = _surroundings(tokenizer)
        self._pairs = pairs or SurroundedPairs(tokenizer, self._surroundings)

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def tokenizer(self) -> PagedTokenizer:
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
        return self._limits.max_num_batched_tokens

    @property
    def surroundings(self) -> Surroundings:
        return self._surroundings

    @property
    def pairs(self) -> PairFormat:
        return self._pairs

    @property
    def prompt(self) -> str:
        return self._prompt

    def embed(self, inputs: Sequence[EmbeddingInput]) -> list[Vector]:
        if self._model is None:
            raise BackendError("the model is closed")
        order = sorted(range(len(inputs)), key=lambda index: len(inputs[index].token_ids))
        try:
            with torch.inference_mode():
                rows = self._model([inputs[index] for index in order]).cpu().numpy()
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            raise BackendError(f"the step failed on the device: {error}") from error
        place = {index: row for row, index in enumerate(order)}
        return [rows[place[index]].data for index in range(len(inputs))]

    def close(self) -> None:
        """Free the weights; idempotent."""
        self._model = None
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            from pagemill.backends.paged.gpu_memory import give_back_memory

            give_back_memory()


def _surroundings(tokenizer: PagedTokenizer) -> Surroundings:
    """With what stands between a pair's texts, beyond the end of the first: found in a pair."""
    single = Surroundings.of(tokenizer)
    text = tokenizer.encode(SAMPLE, add_special=False, parse_special=False)
    pair = tokenizer.encode_pair(SAMPLE, SAMPLE)
    around = len(single.before) + len(text) + len(single.after)
    return single._replace(between=tuple(pair[around : len(pair) - len(text) - len(single.after)]))
