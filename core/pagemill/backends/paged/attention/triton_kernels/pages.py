"""Writing a step's keys and values into their pages, and reading a tile of them back. Owns no state."""

import triton
import triton.language as tl


@triton.jit
def write_pages_kernel(
    key,  # [num_tokens, num_kv_heads, head_dim], rows strided
    value,
    key_pages,  # [num_blocks, num_kv_heads, block_size, head_dim]
    value_pages,
    slots,  # [num_tokens] int64; below zero: a padded row
    key_stride,
    value_stride,
    page_stride,
    num_kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    block_size: tl.constexpr,
    limit: tl.constexpr,  # the largest number that the pages hold; 0: whatever the key and value hold
    heads_padded: tl.constexpr,
    dims_padded: tl.constexpr,
):
    """One program for each token."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    if slot < 0:
        return
    heads = tl.arange(0, heads_padded)[:, None]
    dims = tl.arange(0, dims_padded)[None, :]
    mask = (heads < num_kv_heads) & (dims < head_dim)
    source = heads * head_dim + dims
    target = (slot // block_size) * page_stride + (heads * block_size + slot % block_size) * head_dim + dims
    keys = tl.load(key + token * key_stride + source, mask=mask)
    values = tl.load(value + token * value_stride + source, mask=mask)
    tl.store(key_pages + target, narrowed(keys, key_pages.dtype.element_ty, limit), mask=mask)
    tl.store(value_pages + target, narrowed(values, value_pages.dtype.element_ty, limit), mask=mask)


@triton.jit
def narrowed(states, dtype: tl.constexpr, limit: tl.constexpr):
    """Cast to the pages' type; beyond fp8's range a number becomes the largest there is, not NaN or infinity."""
    if limit > 0:
        states = tl.clamp(states.to(tl.float32), -limit, limit)
    return states.to(dtype)


@triton.jit
def tile_rows(
    table,  # one sequence's row of the block tables
    positions,
    written,
    head,
    page_stride,
    head_dim: tl.constexpr,
    block_size: tl.constexpr,
    masked: tl.constexpr,
):
    """Where in the pool each position's row of the head begins, in elements."""
    if masked:
        blocks = tl.load(table + positions // block_size, mask=written, other=0)
    else:
        blocks = tl.load(table + positions // block_size)
    return blocks.to(tl.int64) * page_stride + (head * block_size + positions % block_size) * head_dim


@triton.jit
def load_tile(
    pages,
    rows,
    written,
    dtype: tl.constexpr,
    head_dim: tl.constexpr,
    dims_padded: tl.constexpr,
    masked: tl.constexpr,
):
    """`[tile, dims_padded]` in the dtype; zero where nothing is written, since zero times NaN is NaN."""
    dims = tl.arange(0, dims_padded)
    pointers = pages + rows[:, None] + dims[None, :]
    if masked:
        if dims_padded == head_dim:
            tile = tl.load(pointers, mask=written[:, None], other=0.0)
        else:
            tile = tl.load(pointers, mask=written[:, None] & (dims < head_dim)[None, :], other=0.0)
    elif dims_padded == head_dim:
        tile = tl.load(pointers)
    else:
        tile = tl.load(pointers, mask=(dims < head_dim)[None, :], other=0.0)
    return tile.to(dtype)
