"""The largest entries of rows: against numpy's stable sort, ties and odd widths included."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pagemill.backends.paged.sampling.rows import argmax, largest

WIDTHS = [1, 7, 259, 2000, 8192, 50_257]


def make_rows(width: int, *, tied: bool) -> Tensor:
    rows = torch.randn(4, width, generator=torch.Generator().manual_seed(width))
    rows[1] = -rows[1].abs()
    rows[2, :: max(1, width // 3)] = -torch.inf
    rows[3] = 0.0
    rows[3, ::2] = -0.0
    return (rows * 4).round() / 4 if tied else rows


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_largest_are_those_of_a_stable_sort(width: int, tied: bool) -> None:
    rows = make_rows(width, tied=tied)
    order = np.argsort(-rows.numpy(), axis=-1, kind="stable")
    for count in (1, 2, 20, 40, 256, 1000, width, width + 1):
        values, columns = largest(rows, count)
        assert columns.numpy().tolist() == order[:, :count].tolist()
        assert torch.equal(values, rows.gather(1, columns))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_argmax_is_the_first_of_the_largest(width: int, tied: bool) -> None:
    rows = make_rows(width, tied=tied)
    assert argmax(rows).tolist() == np.argmax(rows.numpy(), axis=-1).tolist()
    assert argmax(rows[1:3]).tolist() == argmax(rows).tolist()[1:3]


def test_rows_that_are_cut_from_wider_ones_are_read_where_they_lie() -> None:
    rows = torch.randn(3, 9000)[:, :8192]
    assert argmax(rows).tolist() == rows.numpy().argmax(-1).tolist()
    assert torch.equal(largest(rows, 50)[1], largest(rows.contiguous(), 50)[1])
