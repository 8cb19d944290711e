"""Comparing steps with a prefix cache and without one, in one process."""

import pytest
from load_tests.compare import make_cell
from load_tests.prefix_cost_steps import main, run_round, sides
from load_tests.scenarios import scenarios

TOKEN_IDS = range(3, 400)


def test_the_cost_is_measured_step_by_step(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--params", "1M", "--clients", "2", "--rounds", "6", "--threads", "1", "--no-save"])
    printed = capsys.readouterr().out
    assert "fixed, 2 clients, 6 pairs of rounds" in printed
    assert "\n| CPU time " in printed
    assert "\n| bookkeeping " in printed


def test_a_round_that_finds_its_prompts_in_the_cache_is_refused() -> None:
    cell = make_cell(scenarios()["fixed"], 2, 2, 1)
    on, off = sides("1M", cell, prefix_caching=True)
    planned = cell.scenario.plan(2, TOKEN_IDS, seed=0)
    with_it, without = run_round(on, off, planned)
    assert min(with_it.cpu_s, without.cpu_s) > 0
    with pytest.raises(RuntimeError, match="came from the cache"):
        run_round(on, off, planned)
