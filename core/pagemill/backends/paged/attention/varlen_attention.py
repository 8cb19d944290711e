"""Attention over pages by `torch.nn.attention.varlen`: FlashAttention 2 inside torch, for pages of a multiple of 256.

What our own kernels are checked against on a GPU, and the fallback for them. It does not split a long context over
programs (pytorch#194167: its splits are wrong for every sequence but the first), so it is slow for few sequences. Owns
no state.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pagemill.backends.paged.attention.base import AttentionBatch, AttentionSpec, LayerKV
from pagemill.backends.paged.attention.triton_attention import write_pages
from pagemill.errors import ModelLoadError

PAGE_SIZE_MULTIPLE = 256
MAX_HEAD_DIM = 256
HEAD_DIM_MULTIPLE = 8
PARAMETERS = ("block_table", "seqused_k", "num_splits", "enable_gqa", "window_size", "scale")


class VarlenAttention:
    """See `attention.base.Attention`. All sequences, decoding or not, are one call."""

    def __init__(self, device: torch.device) -> None:
        """Raises ModelLoadError: the device is not CUDA's, or torch is older than 2.12."""
        if device.type != "cuda":
            raise ModelLoadError(f"attention_backend=varlen needs a CUDA device; this is {device}")
        self._varlen_attn = find_varlen_attn()

    def __call__(
        self, spec: AttentionSpec, query: Tensor, key: Tensor, value: Tensor, kv: LayerKV, batch: AttentionBatch
    ) -> Tensor:
        check_supported(spec, query, kv)
        write_pages(key, value, kv, batch.slots)
        window = -1 if spec.sliding_window is None else spec.sliding_window - 1  # positions before the query's own
        output: Tensor = self._varlen_attn(
            query,
            kv.keys.transpose(1, 2),  # [num_blocks, block_size, num_kv_heads, head_dim], a view
            kv.values.transpose(1, 2),
            batch.query_starts,
            None,
            batch.max_query_len,
            batch.max_context_len,
            scale=spec.scale,
            window_size=(window, 0),
            enable_gqa=True,
            seqused_k=batch.context_lens,
            block_table=batch.block_tables,
            num_splits=1,
        )
        return output


def find_varlen_attn() -> Callable[..., Any]:
    """torch's function. Raises ModelLoadError if this torch has none that reads pages."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        missing: tuple[str, ...] = ("varlen_attn",)
    else:
        parameters = inspect.signature(varlen_attn).parameters
        missing = tuple(name for name in PARAMETERS if name not in parameters)
        if not missing:
            return varlen_attn
    raise ModelLoadError(
        f"attention_backend=varlen needs torch 2.12 or newer; torch {torch.__version__} has no {', '.join(missing)}"
    )


def check_supported(spec: AttentionSpec, query: Tensor, kv: LayerKV) -> None:
    """Raises ModelLoadError, which names what of the layer torch's kernel does not do."""
    if spec.soft_cap is not None:
        raise ModelLoadError(f"attention_backend=varlen has no soft cap; the model's is {spec.soft_cap}")
    if kv.block_size % PAGE_SIZE_MULTIPLE:
        raise ModelLoadError(f"attention_backend=varlen needs a block_size of a multiple of 256; it is {kv.block_size}")
    head_dim = query.shape[-1]
    if head_dim > MAX_HEAD_DIM or head_dim % HEAD_DIM_MULTIPLE:
        raise ModelLoadError(
            f"attention_backend=varlen needs a head_dim of at most {MAX_HEAD_DIM} and a multiple of "
            f"{HEAD_DIM_MULTIPLE}; it is {head_dim}"
        )
    if query.dtype not in (torch.float16, torch.bfloat16):
        raise ModelLoadError(f"attention_backend=varlen computes in float16 or bfloat16; this is {query.dtype}")
    if kv.keys.dtype != query.dtype:
        raise ModelLoadError(f"attention_backend=varlen needs pages of {query.dtype}; these are {kv.keys.dtype}")
