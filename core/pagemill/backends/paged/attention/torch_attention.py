"""Attention over paged keys and values in plain torch, on any device and for any dtype of the pages.

It gathers the pages, so it moves several times the bytes of a kernel that reads them in place: what the others are
held against, and the fallback for them. It waits for the device, so no CUDA graph can capture it. Owns no state.
"""

import torch
from torch import Tensor

from pagemill.backends.paged.attention.base import AttentionBatch, AttentionSpec, LayerKV, Prefill

MAX_SCORES = 1 << 24  # in memory at once in a prefill, which takes its queries in slices for it


class TorchAttention:
    """See `attention.base.Attention`. Decodes run as one batch, prefills one after the other."""

    def __call__(
        self, spec: AttentionSpec, query: Tensor, key: Tensor, value: Tensor, kv: LayerKV, batch: AttentionBatch
    ) -> Tensor:
        write_pages(key, value, kv, batch.slots)
        output = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        if batch.num_decodes:
            output[: batch.num_decodes] = _decode(spec, query[: batch.num_decodes], kv, batch)
        for prefill in batch.prefills:
            rows = slice(prefill.query_start, prefill.query_start + prefill.query_len)
            _prefill(spec, query[rows], kv, batch, prefill, out=output[rows])
        return output


def write_pages(key: Tensor, value: Tensor, kv: LayerKV, slots: Tensor) -> None:
    """Put each token's `[num_kv_heads, head_dim]` at its slot; a padded row, with a slot below zero, takes nothing."""
    (rows,) = torch.nonzero(slots >= 0, as_tuple=True)
    blocks, offsets = slots[rows] // kv.block_size, slots[rows] % kv.block_size
    for pages, states in ((kv.keys, key), (kv.values, value)):
        _bytes_if_fp8(pages)[blocks, :, offsets] = _bytes_if_fp8(states[rows].to(pages.dtype))


def _bytes_if_fp8(tensor: Tensor) -> Tensor:
    """Torch does not index fp8 tensors everywhere; it does their bytes."""
    return tensor.view(torch.uint8) if tensor.element_size() == 1 else tensor


def _decode(spec: AttentionSpec, query: Tensor, kv: LayerKV, batch: AttentionBatch) -> Tensor:
    """One query for each of the first sequences, `[num_decodes, num_heads, head_dim]`."""
    context_lens = batch.context_lens[: len(query)]
    keys, values = _gather(kv, batch.block_tables[: len(query)], context_lens)
    positions = torch.arange(keys.shape[2], device=query.device)
    visible = positions < context_lens[:, None]
    if spec.sliding_window is not None:
        visible &= positions >= context_lens[:, None] - spec.sliding_window
    grouped = query.reshape(len(query), kv.keys.shape[1], -1, query.shape[-1])
    return _attend(spec, grouped, keys, values, visible[:, None, None]).flatten(1, 2).to(query.dtype)


def _prefill(
    spec: AttentionSpec, query: Tensor, kv: LayerKV, batch: AttentionBatch, prefill: Prefill, *, out: Tensor
) -> None:
    """Several queries of one sequence, `[query_len, num_heads, head_dim]`, the last of its tokens."""
    row = slice(prefill.sequence, prefill.sequence + 1)
    keys, values = _gather(kv, batch.block_tables[row], batch.context_lens[row])
    keys, values = keys[0, :, None], values[0, :, None]  # [num_kv_heads, 1, context, head_dim]
    positions = torch.arange(keys.shape[2], device=query.device)
    places = torch.arange(prefill.context_len - prefill.query_len, prefill.context_len, device=query.device)
    rows_at_once = max(1, MAX_SCORES // (query.shape[1] * keys.shape[2]))
    for start in range(0, prefill.query_len, rows_at_once):
        rows = slice(start, start + rows_at_once)
        visible = positions <= places[rows, None]
        if spec.sliding_window is not None:
            visible &= positions > places[rows, None] - spec.sliding_window
        grouped = query[rows].reshape(-1, len(keys), query.shape[1] // len(keys), query.shape[2]).permute(1, 2, 0, 3)
        attended = _attend(spec, grouped, keys, values, visible)  # [num_kv_heads, group, rows, head_dim]
        out[rows] = attended.flatten(0, 1).transpose(0, 1)


def _gather(kv: LayerKV, block_tables: Tensor, context_lens: Tensor) -> tuple[Tensor, Tensor]:
    """The sequences' keys and values, each `[num_seqs, num_kv_heads, longest context, head_dim]` float32. What no
    sequence has written is zero: the memory behind it may hold anything, and zero times NaN is NaN.
    """
    num_blocks = -(-int(context_lens.max()) // kv.block_size)
    in_use = torch.arange(num_blocks, device=block_tables.device) * kv.block_size < context_lens[:, None]
    blocks = torch.where(in_use, block_tables[:, :num_blocks], 0)
    written = torch.arange(num_blocks * kv.block_size, device=block_tables.device) < context_lens[:, None]
    keys, values = (
        _bytes_if_fp8(pages)[blocks].view(pages.dtype).float().transpose(1, 2).flatten(2, 3) for pages in kv
    )
    absent = ~written[:, None, :, None]
    return keys.masked_fill_(absent, 0), values.masked_fill_(absent, 0)


def _attend(spec: AttentionSpec, query: Tensor, keys: Tensor, values: Tensor, visible: Tensor) -> Tensor:
    """Softmax attention in float32, `[..., rows, head_dim]`. A row that sees nothing gives a finite answer."""
    scores = (query.float() @ keys.transpose(-1, -2)).mul_(spec.scale)
    if spec.soft_cap is not None:
        scores = scores.div_(spec.soft_cap).tanh_().mul_(spec.soft_cap)
    scores.masked_fill_(~visible, torch.finfo(torch.float32).min)
    return scores.softmax(-1) @ values
