"""Prefill over pages: many sequences' queries in one launch, each causally against its own past and itself.

Queries are cut into tiles that never straddle two sequences. A program finds its sequence by binary search in
`query_starts`, so the host sends no map of tiles. Owns no state.
"""

import triton
import triton.language as tl

from pagemill.backends.paged.attention.triton_kernels.pages import load_tile, tile_rows
from pagemill.backends.paged.attention.triton_kernels.softmax import attend_tile, normalized


@triton.jit
def first_tile_of(query_starts, sequence, first_sequence, queries_per_tile: tl.constexpr):
    """The first of the sequence's tiles. Each sequence has as many as its queries fill in whole, and one more."""
    tokens_before = tl.load(query_starts + sequence) - tl.load(query_starts + first_sequence)
    return tokens_before // queries_per_tile + sequence - first_sequence


@triton.jit
def sequence_of_tile(query_starts, tile_index, first_sequence, num_prefills, queries_per_tile: tl.constexpr):
    """The last sequence whose first tile is not behind this one."""
    low = first_sequence
    high = first_sequence + num_prefills
    while high - low > 1:
        middle = (low + high) // 2
        reached = first_tile_of(query_starts, middle, first_sequence, queries_per_tile) <= tile_index
        low = tl.where(reached, middle, low)
        high = tl.where(reached, high, middle)
    return low


@triton.jit
def attend_range(
    queries,
    places,  # [rows]: each query's position
    best,
    total,
    answer,
    start,
    stop,
    table,
    key_pages,
    value_pages,
    head,
    page_stride,
    inner_scale,
    outer_scale,
    head_dim: tl.constexpr,
    block_size: tl.constexpr,
    window: tl.constexpr,
    capped: tl.constexpr,
    tile: tl.constexpr,
    dims_padded: tl.constexpr,
    masked: tl.constexpr,  # False: every query sees all of it, and it is whole tiles
):
    """The sums with positions `start` to `stop` in them."""
    for tile_start in range(start, stop, tile):
        positions = tile_start + tl.arange(0, tile)
        written = positions < stop
        rows = tile_rows(table, positions, written, head, page_stride, head_dim, block_size, masked)
        keys = load_tile(key_pages, rows, written, queries.dtype, head_dim, dims_padded, masked)
        values = load_tile(value_pages, rows, written, queries.dtype, head_dim, dims_padded, masked)
        visible = positions[None, :] <= places[:, None]
        if window > 0:
            visible = visible & (positions[None, :] > places[:, None] - window)
        best, total, answer = attend_tile(
            queries, keys, values, visible, best, total, answer, inner_scale, outer_scale, capped, masked
        )
    return best, total, answer


@triton.jit(do_not_specialize=["table_stride", "first_sequence", "num_prefills"])
def prefill_kernel(
    output,  # [num_tokens, num_heads, head_dim], dense
    query,  # [num_tokens, num_heads, head_dim], rows strided
    key_pages,
    value_pages,
    query_starts,
    context_lens,
    block_tables,
    inner_scale,
    outer_scale,
    query_stride,
    table_stride,
    page_stride,
    first_sequence,
    num_prefills,
    num_kv_heads: tl.constexpr,
    group: tl.constexpr,
    head_dim: tl.constexpr,
    block_size: tl.constexpr,
    window: tl.constexpr,
    capped: tl.constexpr,
    tile: tl.constexpr,
    queries_per_tile: tl.constexpr,
    rows_padded: tl.constexpr,  # at least queries_per_tile * group
    dims_padded: tl.constexpr,
):
    """One program for each (KV head, tile of queries). A tile's rows are its queries' heads, a query's together."""
    head = tl.program_id(0)
    tile_index = tl.num_programs(1) - 1 - tl.program_id(1)  # the last tiles see most: they go first
    sequence = sequence_of_tile(query_starts, tile_index, first_sequence, num_prefills, queries_per_tile)
    query_start = tl.load(query_starts + sequence)
    query_len = tl.load(query_starts + sequence + 1) - query_start
    first_tile = first_tile_of(query_starts, sequence, first_sequence, queries_per_tile)
    first_query = (tile_index - first_tile) * queries_per_tile
    if first_query >= query_len:
        return
    past = tl.load(context_lens + sequence) - query_len

    tile_row = tl.arange(0, rows_padded)
    dims = tl.arange(0, dims_padded)
    own_query = first_query + tile_row // group
    in_tile = (own_query < query_len) & (tile_row < queries_per_tile * group)
    mask = in_tile[:, None] & (dims < head_dim)[None, :]
    token = (query_start + own_query).to(tl.int64)
    query_head = head * group + tile_row % group
    elements = (token * query_stride + query_head * head_dim)[:, None] + dims[None, :]
    queries = tl.load(query + elements, mask=mask, other=0.0)

    first_place = past + first_query
    stop = tl.minimum(first_place + queries_per_tile, past + query_len)
    start = tl.maximum(first_place - window + 1, 0) // tile * tile if window > 0 else 0
    masked_from = start if window > 0 else (first_place + 1) // tile * tile  # all queries see what lies before
    places = past + own_query
    table = block_tables + sequence.to(tl.int64) * table_stride
    best = tl.full([rows_padded], float("-inf"), tl.float32)
    total = tl.zeros([rows_padded], tl.float32)
    answer = tl.zeros([rows_padded, dims_padded], tl.float32)
    if window == 0:
        best, total, answer = attend_range(
            queries, places, best, total, answer, start, masked_from, table, key_pages, value_pages, head, page_stride,
            inner_scale, outer_scale, head_dim, block_size, window, capped, tile, dims_padded, False,
        )  # fmt: skip
    best, total, answer = attend_range(
        queries, places, best, total, answer, masked_from, stop, table, key_pages, value_pages, head, page_stride,
        inner_scale, outer_scale, head_dim, block_size, window, capped, tile, dims_padded, True,
    )  # fmt: skip
    answer = normalized(answer, total).to(output.dtype.element_ty)
    target = ((token * num_kv_heads * group + query_head) * head_dim)[:, None] + dims[None, :]
    tl.store(output + target, answer, mask=mask)
