"""The least time that a decode step can take, from what it must move and compute. Pure arithmetic; owns no state."""

from dataclasses import dataclass
from typing import NamedTuple

from pagemill.backends.paged.config import DecoderConfig
from pagemill.backends.paged.model import KVShape


class Ceilings(NamedTuple):
    """Measured on the device, not the vendor's."""

    copy_bytes_per_s: float  # read and written
    matmul_flops_per_s: float  # bfloat16


@dataclass(frozen=True, slots=True)
class DecodeWork:
    """One decode step of `batch_size` sequences that have `context_len` tokens each."""

    config: DecoderConfig
    batch_size: int
    context_len: int
    weight_itemsize: int = 2
    kv_itemsize: int = 2

    @property
    def num_weights(self) -> int:
        """Weights of matrix products, the output projection included; an embedding is only looked up."""
        config = self.config
        width = config.num_heads * config.head_dim
        attention = config.hidden_size * (2 * width + 2 * config.num_kv_heads * config.head_dim)
        mlp = 3 * config.hidden_size * config.intermediate_size
        return config.num_layers * (attention + mlp) + config.vocab_size * config.hidden_size

    @property
    def kv_bytes(self) -> int:
        config = self.config
        shape = KVShape(config.num_layers, config.num_kv_heads, config.head_dim)
        return self.batch_size * self.context_len * shape.bytes_per_token(self.kv_itemsize)

    @property
    def num_bytes(self) -> int:
        return self.num_weights * self.weight_itemsize + self.kv_bytes

    @property
    def flops(self) -> int:
        config = self.config
        attention = 4 * self.context_len * config.num_heads * config.head_dim * config.num_layers
        return self.batch_size * (2 * self.num_weights + attention)

    def floor_s(self, ceilings: Ceilings) -> float:
        return max(self.num_bytes / ceilings.copy_bytes_per_s, self.flops / ceilings.matmul_flops_per_s)
