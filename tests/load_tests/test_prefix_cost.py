"""Resolving a cost of a part of a percent."""

import random

import pytest
from load_tests.compare import make_cell
from load_tests.prefix_cost import Cost, cost, cost_report
from load_tests.scenarios import scenarios

from load_tests import prefix_cost


def test_a_cost_is_the_median_over_pairs_with_an_interval_around_it() -> None:
    pairs = [(100 + percent, 100.0) for percent in range(-50, 51)]
    found = cost(pairs)
    assert found.median == pytest.approx(0)
    assert (found.low, found.high) == pytest.approx((-0.1, 0.1))  # 10 of 101 pairs on each side: 0.98 * sqrt(101)


def test_nineteen_of_twenty_intervals_hold_the_true_cost() -> None:
    generator = random.Random(1)
    held = 0
    for _ in range(400):
        found = cost([(1.005 * generator.gauss(2, 0.06), generator.gauss(2, 0.06)) for _ in range(60)])
        held += found.low <= 0.005 <= found.high
    assert held / 400 > 0.92


def test_too_few_pairs_for_an_interval_are_refused() -> None:
    with pytest.raises(ValueError, match="5 pairs are too few"):
        cost([(1.0, 1.0)] * 5)


@pytest.mark.slow
def test_the_cost_is_measured_on_two_servers_without_a_hit(capsys: pytest.CaptureFixture[str]) -> None:
    prefix_cost.main(
        ["--params", "1M", "--clients", "2", "--pairs", "6", "--threads", "1", "--max-others", "9", "--no-save"]
    )
    printed = capsys.readouterr().out
    assert "fixed, 2 clients, 6 pairs of rounds" in printed
    assert "\n| CPU time " in printed
    assert "\n| wall time " in printed


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(Cost(0.002, -0.001, 0.005), "yes"), (Cost(0.02, 0.015, 0.03), "no"), (Cost(0.005, -0.01, 0.02), "not resolved")],
)
def test_a_cost_is_under_the_aim_only_if_all_of_its_interval_is(value: Cost, verdict: str) -> None:
    cell = make_cell(scenarios()["fixed"], 16, 16, 2)
    row = cost_report("pagemill", cell, 60, {"CPU time": value}).splitlines()[-1]
    assert row.rstrip("| ").endswith(verdict)
