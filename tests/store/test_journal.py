"""Journals: what was recorded is what is here, whatever a kill cut off."""

from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pagemill.store.journal import Journal, Run, gaps

SIZE = 1000
RUNS = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, SIZE)).filter(lambda run: run[0] < run[1]))


def reopened(path: Path, identity: str = "etag", size_bytes: int = SIZE) -> list[Run]:
    journal = Journal(path)
    runs = journal.open(identity, size_bytes)
    journal.close()
    return runs


def covered(runs: list[Run]) -> set[int]:
    return {position for run in runs for position in range(run.start, run.end)}


@settings(max_examples=50, deadline=None)
@given(runs=RUNS, num_cut=st.integers(0, 12))
def test_runs_are_here_in_order_after_a_kill_that_cut_the_last_line(
    runs: list[tuple[int, int]], num_cut: int, tmp_path_factory: object
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"  # type: ignore[attr-defined]  # pytest's own factory
    journal = Journal(path)
    journal.open("etag", SIZE)
    for run in runs:
        journal.record(Run(*run))
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    cut = min(num_cut, len(lines[-1]) - 1) if len(lines) > 1 else 0
    path.write_bytes(b"".join(lines)[: len(b"".join(lines)) - cut])
    kept = runs[:-1] if cut else runs

    found = reopened(path)
    assert covered(found) == covered([Run(*run) for run in kept])
    assert all(before.end < after.start for before, after in pairwise(found))
    assert covered(gaps(found, SIZE)) == set(range(SIZE)) - covered(found)
    assert reopened(path) == found, "a line that was cut must not join the next one"


def test_a_journal_of_another_object_or_size_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for identity, size_bytes in (("etag", SIZE), ("another", SIZE), ("another", SIZE + 1)):
        journal = Journal(path)
        assert journal.open(identity, size_bytes) == []
        journal.record(Run(0, 10))
        journal.close()
    assert reopened(path, "another", SIZE + 1) == [Run(0, 10)]


def test_what_makes_no_sense_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"etag 1000\n0 10\n10\nx y\n5 2000\n50 40\n\n")
    assert reopened(path) == [Run(0, 10)]
