"""Three models and memory for two, in small: real processes, requests in all dialects at once."""

from pathlib import Path

import pytest
from load_tests.models import Shape, write_model
from load_tests.several_models import PATHS, measure, plan

MIB = 2**20
SHAPE = Shape(hidden=512, layers=2, heads=8, kv_heads=8, head_dim=64, feed_forward=512, vocab=2048)


def test_a_plan_is_mixed_and_the_same_for_the_same_seed() -> None:
    asked = plan(["a", "b"], 100, seed=1)
    assert asked == plan(["a", "b"], 100, seed=1)
    assert {request.path for request in asked} == set(PATHS)
    assert {request.model for request in asked} == {"a", "b"}
    assert {request.body["stream"] for request in asked} == {True, False}
    assert any("keep_alive" in request.body for request in asked)


@pytest.mark.slow
def test_no_request_is_lost_and_the_budget_holds(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        write_model(tmp_path / f"{name}.gguf", SHAPE)
    figures = measure(tmp_path, num_requests=40, num_clients=4, threads=1, kv_bytes=64 * MIB)
    run = figures.for_two
    assert run.num_lost == figures.for_all.num_lost == 0
    assert run.peak <= figures.budget
    assert run.most_loaded == 2
    assert run.num_evictions > 0
    assert figures.for_all.num_evictions == 0
