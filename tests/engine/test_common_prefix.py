"""Bisection over slices finds what counting one by one does."""

from hypothesis import given
from hypothesis import strategies as st

from pagemill.engine.common_prefix import common_prefix_length


@given(st.lists(st.integers(0, 1), max_size=40), st.lists(st.integers(0, 1), max_size=40), st.integers(0, 50))
def test_common_prefix_length_equals_the_plain_count(a: list[int], b: list[int], limit: int) -> None:
    limit = min(limit, len(a), len(b))
    expected = 0
    while expected < limit and a[expected] == b[expected]:
        expected += 1
    assert common_prefix_length(a, b, limit) == expected
