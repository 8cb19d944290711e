"""One tile of online softmax attention (Milakov and Gimelshein 2018, arXiv:1805.02867; Dao 2023, arXiv:2307.08691).

Scores are powers of two, so that a program needs `exp2` only. Owns no state.
"""

import triton
import triton.language as tl


@triton.jit
def attend_tile(
    query,  # [rows, dims_padded]
    keys,  # [tile, dims_padded], the query's dtype
    values,
    visible,  # broadcasts to [rows, tile]
    best,  # [rows] float32: the largest score so far, or -inf
    total,  # [rows] float32: sum of the weights so far, relative to `best`
    answer,  # [rows, dims_padded] float32: sum of weight times value so far
    inner_scale,  # of query times key
    outer_scale,  # of its tanh, where the scores are capped
    capped: tl.constexpr,
    masked: tl.constexpr,
):
    """The three sums with the tile's positions in them."""
    scores = tl.dot(query, tl.trans(keys), input_precision="ieee") * inner_scale
    if capped:
        scores = outer_scale * (1.0 - 2.0 / (tl.exp2(scores) + 1.0))
    if masked:
        scores = tl.where(visible, scores, float("-inf"))
    new_best = tl.maximum(best, tl.max(scores, 1))
    # A row that has seen nothing yet: -inf less -inf would be NaN.
    shift = tl.where(new_best == float("-inf"), 0.0, new_best) if masked else new_best
    weights = tl.exp2(scores - shift[:, None])
    decay = tl.exp2(best - shift)
    total = total * decay + tl.sum(weights, 1)
    answer = tl.dot(weights.to(values.dtype), values, answer * decay[:, None], input_precision="ieee")
    return new_best, total, answer


@triton.jit
def normalized(answer, total):
    """The answer; zero for a row that saw nothing."""
    return answer / tl.where(total > 0, total, 1.0)[:, None]
