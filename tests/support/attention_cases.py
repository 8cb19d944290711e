"""Random steps for attention over pages, and dense float64 attention's answers. Shares no code with what it checks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pagemill.backends.paged.attention.base import AttentionBatch, AttentionSpec, LayerKV, Prefill


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a step looks like. Contexts count the step's own tokens."""

    decodes: tuple[int, ...] = ()  # the context of each; 0: a padded row
    prefills: tuple[tuple[int, int], ...] = ()  # (query_len, context_len) of each
    num_heads: int = 6
    num_kv_heads: int = 2
    head_dim: int = 64
    block_size: int = 16
    dtype: torch.dtype = torch.float32
    scale: float = 0.125
    sliding_window: int | None = None
    soft_cap: float | None = None
    strided: bool = False  # query, key and value are views of one fused projection


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A step's arguments and the answer."""

    spec: AttentionSpec
    query: Tensor
    key: Tensor
    value: Tensor
    kv: LayerKV
    batch: AttentionBatch
    expected: Tensor  # float64, of the rows that are not padding
    real_rows: Tensor


def make_case(shape: Shape, *, seed: int = 0, device: str = "cpu") -> Case:
    """Pages lie in random order; what nobody wrote is NaN, and unused places of the block tables are out of range."""
    random = torch.Generator().manual_seed(seed)
    lens = [(min(1, context), context) for context in shape.decodes] + list(shape.prefills)
    query, key, value = _projections(shape, sum(max(1, count) for count, _ in lens), random)
    kv, tables = _pages(shape, [context for _, context in lens], random)
    slots: list[int] = []
    expected: list[Tensor] = []
    real_rows: list[int] = []
    for (count, context), table in zip(lens, tables, strict=True):
        start = len(slots)
        if context == 0:
            slots.append(-1)
            continue
        past = torch.randn(2, context, shape.num_kv_heads, shape.head_dim, generator=random).to(shape.dtype)
        past[0, context - count :], past[1, context - count :] = (
            key[start : start + count],
            value[start : start + count],
        )
        places = [table[i // shape.block_size] * shape.block_size + i % shape.block_size for i in range(context)]
        for place, keys, values in zip(places[: context - count], past[0], past[1], strict=False):
            kv.keys[place // shape.block_size, :, place % shape.block_size] = keys
            kv.values[place // shape.block_size, :, place % shape.block_size] = values
        slots += places[context - count :]
        real_rows += range(start, start + count)
        expected.append(dense_attention(shape, query[start : start + count], past[0], past[1]))
    batch = _batch(shape, lens, tables, slots)
    return Case(
        spec=AttentionSpec(shape.scale, shape.sliding_window, shape.soft_cap),
        query=query.to(device),
        key=key.to(device),
        value=value.to(device),
        kv=LayerKV(kv.keys.to(device), kv.values.to(device)),
        batch=_moved(batch, device),
        expected=torch.cat(expected) if expected else torch.empty(0, shape.num_heads, shape.head_dim).double(),
        real_rows=torch.tensor(real_rows, dtype=torch.long),
    )


def dense_attention(shape: Shape, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The queries are the last of the context. All `[tokens, heads, head_dim]`; float64."""
    group = shape.num_heads // shape.num_kv_heads
    keys, values = keys.double().repeat_interleave(group, 1), values.double().repeat_interleave(group, 1)
    scores = torch.einsum("qhd,khd->hqk", query.double(), keys) * shape.scale
    if shape.soft_cap is not None:
        scores = shape.soft_cap * torch.tanh(scores / shape.soft_cap)
    places = torch.arange(len(keys) - len(query), len(keys))[:, None] - torch.arange(len(keys))
    hidden = places < 0
    if shape.sliding_window is not None:
        hidden |= places >= shape.sliding_window
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden, float("-inf")).softmax(-1), values)


def _projections(shape: Shape, num_tokens: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    heads = [shape.num_heads, shape.num_kv_heads, shape.num_kv_heads]
    fused = torch.randn(num_tokens, sum(heads), shape.head_dim, generator=random).to(shape.dtype)
    query, key, value = torch.split(fused, heads, dim=1)
    if shape.strided:
        return query, key, value
    return query.contiguous(), key.contiguous(), value.contiguous()


def _pages(shape: Shape, contexts: list[int], random: torch.Generator) -> tuple[LayerKV, list[list[int]]]:
    counts = [-(-context // shape.block_size) for context in contexts]
    order = torch.randperm(sum(counts) + 3, generator=random).tolist()
    tables = [[order.pop() for _ in range(count)] for count in counts]
    pages = (sum(counts) + 3, shape.num_kv_heads, shape.block_size, shape.head_dim)
    keys, values = torch.full((2, *pages), float("nan"), dtype=shape.dtype)
    return LayerKV(keys, values), tables


def _batch(shape: Shape, lens: list[tuple[int, int]], tables: list[list[int]], slots: list[int]) -> AttentionBatch:
    starts = [0]
    for count, _ in lens:
        starts.append(starts[-1] + max(1, count))
    block_tables = torch.full((len(lens), max(map(len, tables)) + 1), 2**30, dtype=torch.int32)
    for row, table in enumerate(tables):
        block_tables[row, : len(table)] = torch.tensor(table, dtype=torch.int32)
    decodes = len(shape.decodes)
    return AttentionBatch(
        num_decodes=decodes,
        query_starts=torch.tensor(starts, dtype=torch.int32),
        context_lens=torch.tensor([context for _, context in lens], dtype=torch.int32),
        block_tables=block_tables,
        slots=torch.tensor(slots, dtype=torch.int64),
        max_query_len=max(count for count, _ in lens) or 1,
        max_context_len=max(context for _, context in lens),
        prefills=tuple(
            Prefill(decodes + i, starts[decodes + i], count, context)
            for i, (count, context) in enumerate(lens[decodes:])
        ),
    )


def _moved(batch: AttentionBatch, device: str) -> AttentionBatch:
    return AttentionBatch(
        num_decodes=batch.num_decodes,
        query_starts=batch.query_starts.to(device),
        context_lens=batch.context_lens.to(device),
        block_tables=batch.block_tables.to(device),
        slots=batch.slots.to(device),
        max_query_len=batch.max_query_len,
        max_context_len=batch.max_context_len,
        prefills=batch.prefills,
    )
