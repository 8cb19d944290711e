"""What a loaded model is to the runner: our generic decoder, or one of transformers' own definitions. Owns no state."""

from typing import NamedTuple, Protocol

from torch import Tensor

from pagemill.backends.paged.attention.base import AttentionBatch, LayerKV


class KVShape(NamedTuple):
    """What one token's keys and values need."""

    num_layers: int
    num_kv_heads: int
    head_dim: int

    def bytes_per_token(self, itemsize: int) -> int:
        """In all layers, with elements of `itemsize` bytes."""
        return self.num_layers * 2 * self.num_kv_heads * self.head_dim * itemsize


class PagedModel(Protocol):
    """Weights on a device, and the arithmetic from token ids to logits. Thread-bound; no call mutates the weights."""

    @property
    def kv_shape(self) -> KVShape: ...

    @property
    def vocab_size(self) -> int: ...

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        batch: AttentionBatch,
        pages: tuple[LayerKV, ...],
        rows: Tensor | None = None,
    ) -> Tensor:
        """Compute one step and write its keys and values into the pages, one `LayerKV` for each layer.

        `token_ids` and `positions` `[num_tokens]` int64 on the model's device, laid out as `batch` says. Returns the
        last hidden states, before the output projection and after the last norm: `[num_tokens, hidden_size]`, or of
        the tokens in `rows` `[num_rows]` int64 only, in that order. What no row wants need not be computed.
        """
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """`[num_rows, hidden_size]` (rows of what `forward` returned) to `[num_rows, vocab_size]`, float32, capped and
        scaled as the model wants it.
        """
        ...
