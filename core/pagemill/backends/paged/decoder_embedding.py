"""A decoder as a `PooledModel`: its last hidden states, pooled. Owns the model and the pages of one step.

A step is laid out as one of a generation that prefills whole sequences, so all of the decoder's kernels serve it; its
keys and values are forgotten with it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pagemill.backends.embedder import EmbeddingInput
from pagemill.backends.paged.batch import BatchBuilder
from pagemill.backends.paged.decoder import Decoder
from pagemill.backends.paged.embedder import EmbeddingLimits
from pagemill.backends.paged.encoder.pooling import Pooling, pool
from pagemill.backends.paged.kv_pool import KVPool
from pagemill.engine.step import SequenceChunk, StepPlan


class PooledDecoder:
    """See the module."""

    def __init__(
        self,
        decoder: Decoder,
        limits: EmbeddingLimits,
        pooling: Pooling,
        *,
        dtype: torch.dtype,
        device: torch.device,
        block_size: int,
    ) -> None:
        self._decoder = decoder
        self._pooling: Pooling = pooling
        self._block_size = block_size
        self._pool = KVPool(
            num_blocks=-(-limits.max_step_tokens // block_size) + limits.max_num_seqs,
            block_size=block_size,
            dtype=dtype,
            device=device,
            **decoder.kv_shape._asdict(),
        )
        self._builder = BatchBuilder(
            max_num_seqs=limits.max_num_seqs,
            max_num_batched_tokens=limits.max_step_tokens,
            max_blocks=-(-limits.max_model_len // block_size),
            block_size=block_size,
            device=device,
        )

    @property
    def kv_bytes(self) -> int:
        """Of the pages."""
        return self._pool.num_bytes

    def __call__(self, inputs: Sequence[EmbeddingInput]) -> Tensor:
        plan = self._plan(inputs)
        step = self._builder.build(plan, {})
        self._builder.forget([chunk.sequence_id for chunk in plan.chunks])
        step_inputs = (step.token_ids, step.positions, step.batch, self._pool.layers)
        if self._pooling == "last":
            return self._decoder.forward(*step_inputs, step.sample_rows).float()
        lengths = [chunk.num_tokens for chunk in plan.chunks]  # in order already: a step's single tokens come first
        return pool(self._decoder.forward(*step_inputs), lengths, self._pooling)

    def _plan(self, inputs: Sequence[EmbeddingInput]) -> StepPlan:
        chunks = []
        free = 0
        for index, item in enumerate(inputs):
            end = free + -(-len(item.token_ids) // self._block_size)
            chunks.append(SequenceChunk(index, item.token_ids, 0, tuple(range(free, end)), sample=True))
            free = end
        return StepPlan(0, chunks=tuple(chunks), num_tokens=sum(chunk.num_tokens for chunk in chunks))
