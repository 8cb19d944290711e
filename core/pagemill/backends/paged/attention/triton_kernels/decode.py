"""Decode over pages, one query of a sequence against its whole context, split over programs (flash-decoding).

A sequence's tiles are dealt to `num_splits` programs for each KV head; each leaves a partial answer and the logarithm
of its weight, and `reduce_splits_kernel` puts them together. With one split the answer is written at once. Owns no
state.
"""

import triton
import triton.language as tl

from pagemill.backends.paged.attention.triton_kernels.pages import load_tile, tile_rows
from pagemill.backends.paged.attention.triton_kernels.softmax import attend_tile, normalized


@triton.jit(do_not_specialize=["table_stride", "num_splits"])
def decode_kernel(
    output,  # [num_tokens, num_heads, head_dim] of the query's dtype, dense
    partial_answers,  # [num_seqs, num_heads, num_splits, head_dim] float32
    partial_weights,  # [num_seqs, num_heads, num_splits] float32: log2 of the sum; -inf: the split was empty
    query,  # [num_tokens, num_heads, head_dim], rows strided; row i is sequence i's
    key_pages,
    value_pages,
    context_lens,
    block_tables,
    inner_scale,
    outer_scale,
    query_stride,
    table_stride,
    page_stride,
    num_splits,  # no compile-time size: it differs from batch to batch
    num_kv_heads: tl.constexpr,
    group: tl.constexpr,  # query heads of one KV head
    head_dim: tl.constexpr,
    block_size: tl.constexpr,
    window: tl.constexpr,  # 0: none
    capped: tl.constexpr,
    tile: tl.constexpr,
    group_padded: tl.constexpr,
    dims_padded: tl.constexpr,
):
    """One program for each (KV head, split, sequence); all query heads of the KV head in one tile."""
    head = tl.program_id(0)
    split = tl.program_id(1)
    sequence = tl.program_id(2)
    context_len = tl.load(context_lens + sequence)
    first = tl.maximum(context_len - window, 0) if window > 0 else 0
    first_tile = first // tile
    tiles_per_split = tl.cdiv(tl.cdiv(context_len, tile) - first_tile, num_splits)
    start = (first_tile + split * tiles_per_split) * tile
    stop = tl.minimum(start + tiles_per_split * tile, context_len)

    group_rows = tl.arange(0, group_padded)
    dims = tl.arange(0, dims_padded)
    elements = group_rows[:, None] * head_dim + dims[None, :]
    in_query = (group_rows < group)[:, None] & (dims < head_dim)[None, :]
    own_query = query + sequence.to(tl.int64) * query_stride + head * group * head_dim
    queries = tl.load(own_query + elements, mask=in_query, other=0.0)
    table = block_tables + sequence.to(tl.int64) * table_stride

    best = tl.full([group_padded], float("-inf"), tl.float32)
    total = tl.zeros([group_padded], tl.float32)
    answer = tl.zeros([group_padded, dims_padded], tl.float32)
    for tile_start in range(start, stop, tile):
        positions = tile_start + tl.arange(0, tile)
        written = positions < stop
        rows = tile_rows(table, positions, written, head, page_stride, head_dim, block_size, True)
        keys = load_tile(key_pages, rows, written, queries.dtype, head_dim, dims_padded, True)
        values = load_tile(value_pages, rows, written, queries.dtype, head_dim, dims_padded, True)
        visible = (written & (positions >= first))[None, :]
        best, total, answer = attend_tile(
            queries, keys, values, visible, best, total, answer, inner_scale, outer_scale, capped, True
        )

    answer = normalized(answer, total)
    own_row = (sequence.to(tl.int64) * num_kv_heads + head) * group
    if num_splits == 1:
        tl.store(output + own_row * head_dim + elements, answer.to(output.dtype.element_ty), mask=in_query)
    else:
        own_rows = (own_row + group_rows) * num_splits + split
        places = partial_answers + own_rows[:, None] * head_dim + dims[None, :]
        tl.store(places, answer, mask=in_query & (total > 0)[:, None])
        weights = tl.where(total > 0, best + tl.log2(tl.where(total > 0, total, 1.0)), float("-inf"))
        tl.store(partial_weights + own_rows, weights, mask=group_rows < group)


@triton.jit
def reduce_splits_kernel(
    output,  # [num_tokens, num_heads, head_dim], dense
    partial_answers,
    partial_weights,
    num_heads: tl.constexpr,
    head_dim: tl.constexpr,
    num_splits: tl.constexpr,
    dims_padded: tl.constexpr,
):
    """One program for each (head, sequence): the splits' answers, each by its weight."""
    row = tl.program_id(1).to(tl.int64) * num_heads + tl.program_id(0)
    splits = row * num_splits + tl.arange(0, num_splits)
    dims = tl.arange(0, dims_padded)
    logarithms = tl.load(partial_weights + splits)
    best = tl.max(logarithms, 0)
    weights = tl.exp2(logarithms - tl.where(best == float("-inf"), 0.0, best))
    present = (logarithms > float("-inf"))[:, None] & (dims < head_dim)[None, :]  # an empty split wrote no answer
    answers = tl.load(partial_answers + splits[:, None] * head_dim + dims[None, :], mask=present, other=0.0)
    total = tl.sum(weights, 0)
    answer = tl.sum(answers * weights[:, None], 0) / tl.where(total > 0, total, 1.0)
    tl.store(output + row * head_dim + dims, answer.to(output.dtype.element_ty), mask=dims < head_dim)
