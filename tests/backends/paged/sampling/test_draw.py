"""Inverse CDF: every weight gets its share of the uniform numbers, and none without weight ever any."""

import pytest
import torch

from pagemill.backends.paged.sampling.draw import draw, row_sums

LAST = 1.0 - 2.0**-53  # the largest that a generator gives


def stratified(count: int) -> torch.Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


@pytest.mark.parametrize("width", [1, 3, 1000, 1025, 20_000])
def test_each_column_is_drawn_as_often_as_it_weighs(width: int) -> None:
    weights = torch.rand(width, generator=torch.Generator().manual_seed(width)) ** 6
    weights[::3] = 0.0
    weights[width // 2] = 1.0
    drawn = draw(weights.expand(5000, -1), stratified(5000)).bincount(minlength=width)
    expected = 5000 * weights.double() / weights.double().sum()
    assert (drawn - expected).abs().max() <= 1.001
    assert drawn[weights == 0].sum() == 0


@pytest.mark.parametrize("width", [5, 1024, 4096, 5000])
@pytest.mark.parametrize("only", [0, 2, -1])
def test_the_very_ends_of_the_uniform_numbers_draw_what_has_weight(width: int, only: int) -> None:
    weights = torch.zeros(3, width)
    weights[:, only] = 1.0
    drawn = draw(weights, torch.tensor([0.0, 0.5, LAST], dtype=torch.float64))
    assert drawn.tolist() == [only % width] * 3


def test_a_weight_that_a_float32_sum_would_lose_is_still_drawn() -> None:
    weights = torch.zeros(1, 100_000)
    weights[0, 10] = 1.0
    weights[0, 90_000] = 1e-9
    assert draw(weights, torch.tensor([LAST], dtype=torch.float64)).tolist() == [90_000]


def test_a_row_of_nan_draws_a_column_that_exists() -> None:
    for width in (10, 5000):
        drawn = draw(torch.full((2, width), torch.nan), torch.tensor([0.0, LAST], dtype=torch.float64))
        assert all(0 <= column < width for column in drawn.tolist())


def test_sums_are_near_exact_and_do_not_depend_on_the_company() -> None:
    rows = torch.rand(64, 50_257, generator=torch.Generator().manual_seed(1))
    sums = row_sums(rows)
    torch.testing.assert_close(sums, rows.double().sum(-1, keepdim=True), rtol=1e-7, atol=0)
    for row in (0, 17, 63):
        assert torch.equal(row_sums(rows[row : row + 1]), sums[row : row + 1])
