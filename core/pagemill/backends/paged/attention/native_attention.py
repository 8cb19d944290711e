"""Attention in C, for bfloat16 and float32 on the CPU: keys and values are read in place, one call for each layer.

Owns its workspace, which grows to the largest step's need, and what it last returned.
"""

import ctypes

import torch
from torch import Tensor

from pagemill.backends.paged.attention.base import AttentionBatch, AttentionSpec, LayerKV
from pagemill.backends.paged.attention.torch_attention import TorchAttention
from pagemill.backends.paged.native.library import Layer, Prefill, Step, load_kernels

SPLIT_MULTIPLE = 64  # tokens: the kernel's block of keys
MIN_SPLIT = 128  # tokens of context that are worth a task of their own
TASKS_PER_THREAD = 4  # decodes are split until there are so many
SERIAL_KEYS = 512  # keys of single heads: for no more than these, waking threads costs more than they save


class NativeAttention:
    """See `attention.base.Attention`. The layout of a step is handed to C once, at its first layer. Heads whose size is
    no multiple of 8 are left to plain torch.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        kernels = load_kernels()
        kind = {torch.bfloat16: "bf16", torch.float32: "float"}[dtype]
        self._attend = getattr(kernels, f"pagemill_attention_{kind}")
        self._workspace_size = kernels.pagemill_attention_workspace
        self._dtype = dtype
        self._num_threads = torch.get_num_threads()
        self._workspace = torch.empty(0, dtype=torch.uint8)
        self._output = torch.empty(0, dtype=dtype)
        self._batch: AttentionBatch | None = None
        self._step = Step()
        self._prefills: ctypes.Array[Prefill] | None = None
        self._plain = TorchAttention()

    def __call__(
        self, spec: AttentionSpec, query: Tensor, key: Tensor, value: Tensor, kv: LayerKV, batch: AttentionBatch
    ) -> Tensor:
        if query.shape[2] % 8:
            return self._plain(spec, query, key, value, kv, batch)
        if batch is not self._batch or query.shape != self._output.shape:
            self._begin(query, kv, batch)
        num_heads, head_dim = query.shape[1:]
        soft_cap, window = spec.soft_cap or 0.0, spec.sliding_window or 0
        layer = Layer(
            query.data_ptr(), key.data_ptr(), value.data_ptr(), kv.keys.data_ptr(), kv.values.data_ptr(),
            self._output.data_ptr(), query.stride(0), key.stride(0), value.stride(0),
            num_heads, key.shape[1], head_dim, kv.block_size, spec.scale, soft_cap, window,
        )  # fmt: skip
        self._attend(ctypes.addressof(self._step), ctypes.addressof(layer))
        return self._output

    def _begin(self, query: Tensor, kv: LayerKV, batch: AttentionBatch) -> None:
        """Describe the step, and make room for it."""
        self._check(query, kv)
        num_heads, num_kv_heads, head_dim = query.shape[1], kv.keys.shape[1], query.shape[2]
        split = self._split(batch, num_kv_heads)
        num_splits = max(1, -(-batch.max_context_len // split))
        self._reserve(
            self._workspace_size(num_heads, num_kv_heads, head_dim, batch.num_decodes, num_splits, self._num_threads)
        )
        self._batch = batch
        self._output = torch.empty(query.shape, dtype=self._dtype)
        self._prefills = (Prefill * len(batch.prefills))(*(Prefill(*prefill) for prefill in batch.prefills))
        self._step = Step(
            batch.context_lens.data_ptr(), batch.block_tables.data_ptr(), batch.slots.data_ptr(),
            ctypes.addressof(self._prefills), batch.num_tokens, batch.num_decodes, len(batch.prefills),
            batch.block_tables.stride(0), split, num_splits, self._workspace.data_ptr(),
            1 if batch.num_tokens * batch.max_context_len * num_kv_heads <= SERIAL_KEYS else self._num_threads,
        )  # fmt: skip

    def _check(self, query: Tensor, kv: LayerKV) -> None:
        if not query.dtype == kv.keys.dtype == kv.values.dtype == self._dtype:
            raise TypeError(f"this is attention for {self._dtype}: got {query.dtype} and pages of {kv.keys.dtype}")
        if kv.block_size % 2:
            raise ValueError(f"block_size {kv.block_size} must be even")

    def _split(self, batch: AttentionBatch, num_kv_heads: int) -> int:
        """How much of a decode's context one task takes, in tokens: all, unless there are few tasks."""
        longest = max(1, batch.max_context_len)
        wanted = -(-TASKS_PER_THREAD * self._num_threads // max(1, batch.num_decodes * num_kv_heads))
        split = max(MIN_SPLIT, -(-longest // wanted))
        return -(-split // SPLIT_MULTIPLE) * SPLIT_MULTIPLE

    def _reserve(self, size: int) -> None:
        if self._workspace.numel() < size:
            self._workspace = torch.empty(size, dtype=torch.uint8)
