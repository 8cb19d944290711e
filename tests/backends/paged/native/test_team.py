"""The team of threads behind the kernels: every task runs once, whoever calls, and however many at a time."""

import ctypes
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pagemill.backends.paged.native.library import load_kernels

TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_long, ctypes.c_int)


@pytest.fixture(scope="module")
def kernels() -> Any:
    return load_kernels()


def run_tasks(kernels: Any, count: int, threads: int) -> list[tuple[int, int]]:
    """(task, member) of all that ran."""
    ran: list[tuple[int, int]] = []
    task = TASK(lambda job, index, member: ran.append((index, member)))
    kernels.run_tasks(task, None, ctypes.c_long(count), ctypes.c_int(threads))
    return ran


def tasks_of(ran: Iterable[tuple[int, int]]) -> Counter[int]:
    return Counter(index for index, _member in ran)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_every_task_runs_once_on_one_of_the_threads(kernels: Any, count: int, threads: int) -> None:
    for _ in range(20):
        ran = run_tasks(kernels, count, threads)
        assert tasks_of(ran) == Counter(range(count))
        assert all(0 <= member < threads for _index, member in ran)


def test_callers_at_once_each_have_all_their_tasks_run(kernels: Any) -> None:
    with ThreadPoolExecutor(4) as callers:
        results = callers.map(lambda size: [run_tasks(kernels, size, 3) for _ in range(200)], (1, 5, 17, 40))
        for size, runs in zip((1, 5, 17, 40), results, strict=True):
            assert all(tasks_of(ran) == Counter(range(size)) for ran in runs)


def test_tasks_are_begun_in_order(kernels: Any) -> None:
    assert [index for index, _member in run_tasks(kernels, 50, 1)] == list(range(50))
