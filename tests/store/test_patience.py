"""Patience: pauses that grow, an end to them, and none when one is to stop."""

import random
import threading

import pytest

from pagemill.store.patience import LONGEST_PAUSE_S, Patience


class Waits(threading.Event):
    """An event that only notes how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.timeouts: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.timeouts.append(timeout)
        return self.is_set()


@pytest.fixture
def longest_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)


def test_pauses_double_up_to_a_ceiling_until_the_tries_are_used_up(longest_pauses: None) -> None:
    waits = Waits()
    patience = Patience(10, waits)
    assert [patience.pause() for _ in range(11)] == [True] * 10 + [False]
    assert waits.timeouts == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, *[LONGEST_PAUSE_S] * 4]


def test_progress_renews_the_tries_and_shortens_the_pauses(longest_pauses: None) -> None:
    waits = Waits()
    patience = Patience(1, waits)
    for _ in range(5):
        assert patience.pause()
        patience.renew()
    assert set(waits.timeouts) == {0.2}


def test_who_is_to_stop_tries_no_more() -> None:
    waits = Waits()
    waits.set()
    assert not Patience(10, waits).pause()
