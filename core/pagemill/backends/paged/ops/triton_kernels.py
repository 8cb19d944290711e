"""The Triton kernels of `ops.triton_ops`. Sums and products in float32. Owns no state."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["num_rows"])
def rms_norm_kernel(
    output,  # [num_rows, size], dense
    x,  # [num_rows / inner_rows, inner_rows, size]: tokens, their heads
    weight,
    num_rows,
    inner_rows,
    outer_stride,
    inner_stride,
    eps,
    size: tl.constexpr,
    rows_at_once: tl.constexpr,
    size_padded: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * rows_at_once + tl.arange(0, rows_at_once)
    elements = tl.arange(0, size_padded)[None, :]
    mask = (rows < num_rows)[:, None] & (elements < size)
    starts = (rows // inner_rows) * outer_stride + (rows % inner_rows) * inner_stride
    wide = tl.load(x + starts[:, None] + elements, mask=mask, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 1) / size + eps)
    weights = tl.load(weight + elements, mask=elements < size, other=0.0).to(tl.float32)
    normed = wide * scale[:, None] * weights
    tl.store(output + rows[:, None] * size + elements, normed.to(output.dtype.element_ty), mask=mask)


@triton.jit
def add_rms_norm_kernel(
    output,  # all [num_tokens, size], dense
    x,
    residual,  # changed
    weight,
    eps,
    size: tl.constexpr,
    size_padded: tl.constexpr,
):
    """One program for each row. What is normed is the sum as it is stored, rounded."""
    elements = tl.arange(0, size_padded)
    mask = elements < size
    row = tl.program_id(0).to(tl.int64) * size + elements
    added = tl.load(x + row, mask=mask, other=0.0).to(tl.float32)
    total = (tl.load(residual + row, mask=mask, other=0.0).to(tl.float32) + added).to(residual.dtype.element_ty)
    tl.store(residual + row, total, mask=mask)
    wide = total.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / size + eps)
    weights = tl.load(weight + elements, mask=mask, other=0.0).to(tl.float32)
    tl.store(output + row, (wide * scale * weights).to(output.dtype.element_ty), mask=mask)


@triton.jit
def rotate_kernel(
    query,  # [num_tokens, num_heads, head_dim], rows strided; changed
    key,
    positions,
    cos_sin,  # [max_positions, 2 * half] float32, dense
    query_stride,
    key_stride,
    num_heads: tl.constexpr,
    num_kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    half: tl.constexpr,
    heads_padded: tl.constexpr,
    kv_heads_padded: tl.constexpr,
    half_padded: tl.constexpr,
):
    """One program for a token's query, one for its key."""
    token = tl.program_id(0).to(tl.int64)
    position = tl.load(positions + token).to(tl.int64)
    if tl.program_id(1) == 0:
        rotate_heads(
            query + token * query_stride, cos_sin, position, num_heads, head_dim, half, heads_padded, half_padded
        )
    else:
        rotate_heads(
            key + token * key_stride, cos_sin, position, num_kv_heads, head_dim, half, kv_heads_padded, half_padded
        )


@triton.jit
def rotate_heads(
    states,
    cos_sin,
    position,
    num_heads: tl.constexpr,
    head_dim: tl.constexpr,
    half: tl.constexpr,
    heads_padded: tl.constexpr,
    half_padded: tl.constexpr,
):
    dims = tl.arange(0, half_padded)[None, :]
    heads = tl.arange(0, heads_padded)[:, None]
    angles = cos_sin + position * 2 * half + dims
    cos = tl.load(angles, mask=dims < half, other=0.0)
    sin = tl.load(angles + half, mask=dims < half, other=0.0)
    places = states + heads * head_dim + dims
    mask = (heads < num_heads) & (dims < half)
    first = tl.load(places, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(places + half, mask=mask, other=0.0).to(tl.float32)
    tl.store(places, (first * cos - second * sin).to(states.dtype.element_ty), mask=mask)
    tl.store(places + half, (second * cos + first * sin).to(states.dtype.element_ty), mask=mask)


@triton.jit
def gated_activation_kernel(
    output,  # [num_tokens, size], dense
    gate_up,  # [num_tokens, 2 * size], rows strided
    row_stride,
    size: tl.constexpr,
    activation: tl.constexpr,
    elements_at_once: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    elements = tl.program_id(1) * elements_at_once + tl.arange(0, elements_at_once)
    mask = elements < size
    gate = tl.load(gate_up + row * row_stride + elements, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * row_stride + size + elements, mask=mask, other=0.0).to(tl.float32)
    if activation == "silu":
        active = gate / (1.0 + tl.exp(-gate))
    elif activation == "gelu_tanh":  # 0.5 * (1 + tanh(x)) is the logistic function of 2x
        inner = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        active = gate / (1.0 + tl.exp(-2.0 * inner))
    else:
        active = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    tl.store(output + row * size + elements, (active * up).to(output.dtype.element_ty), mask=mask)
