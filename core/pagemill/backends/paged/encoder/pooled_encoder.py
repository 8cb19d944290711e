"""An encoder as a `PooledModel`: lays a step out, computes it, pools or scores. Owns the model."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from pagemill.backends.embedder import EmbeddingInput
from pagemill.backends.paged.encoder.encoder import Encoder
from pagemill.backends.paged.encoder.head import ScoreHead
from pagemill.backends.paged.encoder.pooling import Pooling, pool


class PooledEncoder:
    """With a `head` its rows are scores, and the first token's state is what is scored."""

    def __init__(
        self, encoder: Encoder, device: torch.device, pooling: Pooling, head: ScoreHead | None, *, sigmoid: bool
    ) -> None:
        self._encoder = encoder
        self._device = device
        self._pooling: Pooling = pooling
        self._head = head
        self._sigmoid = sigmoid  # of the score

    def __call__(self, inputs: Sequence[EmbeddingInput]) -> Tensor:
        lengths = [len(item.token_ids) for item in inputs]
        token_ids, positions, token_types = self._layout(inputs, lengths).unbind()
        hidden = self._encoder.forward(token_ids, positions, token_types, lengths)
        if self._head is None:
            return pool(hidden, lengths, self._pooling)
        starts = torch.tensor([0, *itertools.accumulate(lengths[:-1])], device=self._device)
        scores = self._head(hidden[starts]).float()
        return scores.sigmoid_() if self._sigmoid else scores

    def _layout(self, inputs: Sequence[EmbeddingInput], lengths: Sequence[int]) -> Tensor:
        """Token ids, positions and types of tokens, `[3, num_tokens]`: one copy to the device."""
        rows = torch.zeros((3, sum(lengths)), dtype=torch.int64)
        start = 0
        for item, length in zip(inputs, lengths, strict=True):
            end = start + length
            rows[0, start:end] = torch.tensor(item.token_ids)
            rows[1, start:end] = torch.arange(length)
            if item.second_start is not None and self._encoder.config.pairs_have_types:
                rows[2, start + item.second_start : end] = 1
            start = end
        return rows.to(self._device)
