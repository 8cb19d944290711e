"""How far two lists of tokens agree. Owns no state."""

from collections.abc import Sequence as ReadOnlySequence


def common_prefix_length(a: ReadOnlySequence[int], b: ReadOnlySequence[int], limit: int) -> int:
    """How many of the first `limit` tokens are equal, by bisection over slices, which C compares."""
    if limit <= 0 or a[0] != b[0]:
        return 0
    a, b = list(a[:limit]), list(b[:limit])
    if a == b:
        return limit
    low, high = 1, limit  # a[:low] is equal, a[:high] is not
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low
