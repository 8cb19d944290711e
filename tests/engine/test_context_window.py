"""What stays of a full context."""

import pytest

from pagemill.engine.context_window import ContextWindow
from pagemill.generation import ContextShift


@pytest.mark.parametrize(
    ("length", "num_keep", "num_kept", "num_left"),
    [
        (4096, 4, 4, 2050),  # as many as Ollama leaves
        (4096, 5, 5, 2051),
        (8, 3, 3, 6),
        (8, 0, 1, 5),  # the first token always stays
        (8, -1, 1, 5),
        (8, 99, 3, 6),  # no more of the beginning than leaves a quarter to be dropped
        (4096, 4000, 2047, 3072),
        (3, 4, 1, 2),
        (2, 4, 0, 1),  # what was sampled last
    ],
)
def test_the_first_tokens_stay_and_the_newer_half_of_the_others(
    length: int, num_keep: int, num_kept: int, num_left: int
) -> None:
    window = ContextWindow.of(ContextShift(num_keep), length)
    assert (window.num_kept, length - window.num_dropped) == (num_kept, num_left)


@pytest.mark.parametrize("num_keep", [0, 4, 100, 10**9])
@pytest.mark.parametrize("length", [2, 3, 4, 5, 7, 128, 4097])
def test_the_newest_token_stays_and_no_token_is_computed_more_than_four_times(length: int, num_keep: int) -> None:
    window = ContextWindow.of(ContextShift(num_keep), length)
    num_left = length - window.num_dropped
    assert window.num_kept < num_left < length
    assert num_left <= 3 * window.num_dropped + 3
