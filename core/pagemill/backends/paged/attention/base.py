"""What attention over a paged KV cache is: the layout of one step's batch, and the protocol of its implementations.

Owns no state. An implementation writes the step's keys and values into their pages, then lets every query attend over
its sequence's pages, causally. Prefill and decode come mixed in one batch. May not import a model definition.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """What of attention is a layer's own."""

    scale: float  # of query times key
    sliding_window: int | None = None  # a query sees this many positions, its own among them; None: all before it
    soft_cap: float | None = None  # scores become cap * tanh(score / cap); None: as they are


class LayerKV(NamedTuple):
    """One layer's pages. Both `[num_blocks, num_kv_heads, block_size, head_dim]`, the model's dtype or an fp8 one."""

    keys: Tensor
    values: Tensor

    @property
    def block_size(self) -> int:
        return self.keys.shape[2]


class Prefill(NamedTuple):
    """Where one sequence that prefills stands in the batch, known to the host."""

    sequence: int  # its row in `block_tables` and `context_lens`
    query_start: int  # its first token in the batch
    query_len: int  # its tokens in the batch
    context_len: int  # tokens in its pages once the batch's are written; the queries are the last of them


@dataclass(frozen=True, slots=True)
class AttentionBatch:
    """The layout of one step. Sequences that decode (one query token each) come first, one token each in the same
    order; behind them the others. All tensors are int32 on the device, unless it is said otherwise.

    A batch padded to a fixed size (CUDA graphs) has more sequences at the end of the decodes, with `context_lens` 0 and
    `slots` -1: nothing is written for them, and what they give is undefined but finite.
    """

    num_decodes: int
    query_starts: Tensor  # [num_seqs + 1]: where each sequence's tokens begin, and the end
    context_lens: Tensor  # [num_seqs]: tokens in the sequence's pages, this step's included
    block_tables: Tensor  # [num_seqs, max_blocks]: the pages in order of position; undefined beyond those in use
    slots: Tensor  # [num_tokens] int64: block * block_size + offset, where each token's key and value go
    max_query_len: int
    max_context_len: int
    prefills: tuple[Prefill, ...] = ()  # those behind the decodes, one for each sequence

    @property
    def num_tokens(self) -> int:
        return self.slots.shape[0]


class Attention(Protocol):
    """One way of computing attention. Thread-bound, as the backend is; may keep scratch memory between calls."""

    def __call__(
        self, spec: AttentionSpec, query: Tensor, key: Tensor, value: Tensor, kv: LayerKV, batch: AttentionBatch
    ) -> Tensor:
        """Write `key` and `value` into the pages at `batch.slots`, and attend.

        `query` `[num_tokens, num_heads, head_dim]`, `key` and `value` `[num_tokens, num_kv_heads, head_dim]`, after
        rotary embedding; rows may be strided (views of one fused projection), the last two dimensions are dense.
        Query head h reads KV head h // (num_heads / num_kv_heads).

        Returns `[num_tokens, num_heads, head_dim]`, dense, of query's dtype; valid until the next call. Scores and sums
        are float32.
        """
        ...
