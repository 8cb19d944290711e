"""How a GGUF model is to be loaded and run. Owns no state; imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal

KVCacheType = Literal["auto", "f16", "q8_0", "q4_0"]
FlashAttention = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GGUFOptions:
    """Fields are named as the settings are. `kv_unified` is not a setting: streams won wherever both were measured."""

    max_model_len: int | None = None  # None: chosen, see `capacity`
    max_num_seqs: int | None = None  # also the number of slots; None: chosen likewise
    max_num_batched_tokens: int = 512
    threads: int | None = None  # None: the cores of this machine
    kv_cache_dtype: KVCacheType = "auto"
    kv_cache_memory_bytes: int | None = None  # None: at most half of the memory that is free
    flash_attn: FlashAttention = "auto"
    mmap: bool = True
    mlock: bool = False
    kv_unified: bool = False  # one buffer that all sequences attend over, instead of a stream for each

    @property
    def kv_type(self) -> str:
        """The type of cached keys and values, with "auto" resolved."""
        return "f16" if self.kv_cache_dtype == "auto" else self.kv_cache_dtype
