"""torch's threads sleep where they wait, unless somebody says otherwise."""

import os

import pytest

from pagemill.backends.paged.openmp import let_threads_sleep


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_unless_the_variable_is_set(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if before is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", before)
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == after
