"""What of the settings concerns the paged backend. Owns no state; imports no torch."""

from dataclasses import dataclass
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
DType = Literal["auto", "bfloat16", "float16", "float32"]
Runner = Literal["auto", "generate", "pooling"]
AttentionBackend = Literal["auto", "torch", "cpu", "triton", "varlen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PagedOptions:
    """See `pagemill.settings.Settings` for the meaning of each."""

    device: Device = "auto"
    dtype: DType = "auto"
    kv_cache_dtype: str = "auto"
    block_size: int = 16
    gpu_memory_utilization: float = 0.9
    kv_cache_memory_bytes: int | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    threads: int | None = None
    enforce_eager: bool = False
    async_scheduling: bool | None = None  # None: on a GPU
    attention_backend: AttentionBackend = "auto"
    runner: Runner = "auto"  # "pooling": embeddings, "generate": text; "auto": as the files say
    model_impl: Literal["auto", "pagemill", "transformers"] = "auto"
