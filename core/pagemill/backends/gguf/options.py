"""How a GGUF model is to be loaded and run. Owns no state; imports nothing heavy."""

from typing import Literal, NamedTuple

from pagemill.errors import ModelLoadError

DEFAULT_MODEL_LEN = 8192
KV_TYPES = ("f16", "q8_0", "q4_0")
FlashAttention = Literal["auto", "on", "off"]
Runner = Literal["auto", "generate", "pooling"]


class GGUFOptions(NamedTuple):
    """Fields are named as the settings are. `kv_unified` is not a setting: streams won wherever both were measured."""

    max_model_len: int | None = None  # None: chosen, see `capacity`
    preferred_model_len: int = DEFAULT_MODEL_LEN  # then, if the model was trained for as much
    max_num_seqs: int | None = None  # also the number of slots; None: chosen likewise
    max_num_batched_tokens: int = 512
    threads: int | None = None  # None: the cores of this machine
    kv_cache_dtype: str = "auto"
    kv_cache_memory_bytes: int | None = None  # None: at most half of the memory that is free
    flash_attn: FlashAttention = "auto"
    mmap: bool = True
    mlock: bool = False
    runner: Runner = "auto"  # "pooling": embeddings, "generate": text; "auto": as the file says
    kv_unified: bool = False  # one buffer that all sequences attend over, instead of a stream for each

    def chosen_model_len(self, trained: int) -> int:
        """Where `max_model_len` leaves it open, of a model that was trained for so many tokens (0: unknown)."""
        return min(trained or self.preferred_model_len, self.preferred_model_len)

    @property
    def kv_type(self) -> str:
        """The type of cached keys and values, with "auto" resolved.

        Raises:
            ModelLoadError: it is not one of llama.cpp's.
        """
        if self.kv_cache_dtype == "auto":
            return "f16"
        if self.kv_cache_dtype not in KV_TYPES:
            raise ModelLoadError(f"kv_cache_dtype {self.kv_cache_dtype} is not one of gguf's: {', '.join(KV_TYPES)}")
        return self.kv_cache_dtype
