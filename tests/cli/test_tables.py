"""Numbers and times as people read them."""

from datetime import UTC, datetime, timedelta

import pytest

from pagemill.cli.tables import human_age, human_duration, human_size, human_span, human_until, write_table


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (7_900_000, "7.9 MB"), (13e9, "13 GB"), (5e15, "5000 TB")]
)
def test_sizes(size: float, text: str) -> None:
    assert human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "less than a second"), (1, "1 second"), (299, "4 minutes"), (3600, "1 hour"), (2 * 86400, "2 days")],
)
def test_spans(seconds: float, text: str) -> None:
    assert human_span(seconds) == text


def test_ages_and_expiries() -> None:
    now = datetime.now(UTC)
    assert human_age((now - timedelta(hours=3)).isoformat()) == "3 hours ago"
    assert human_until((now + timedelta(minutes=4, seconds=59)).isoformat()) == "4 minutes from now"
    assert human_until((now + timedelta(days=36500)).isoformat()) == "Forever"
    assert human_until((now - timedelta(seconds=1)).isoformat()) == "Stopping..."


@pytest.mark.parametrize(
    ("nanoseconds", "text"), [(12, "12ns"), (8_500, "8.5µs"), (12_345_000, "12.345ms"), (1_234_000_000, "1.234s")]
)
def test_durations(nanoseconds: int, text: str) -> None:
    assert human_duration(nanoseconds) == text


def test_columns_are_aligned_when_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(("NAME", "SIZE"), [("a-long-name", "1 B"), ("b", "20 MB")])
    assert capsys.readouterr().out == "NAME           SIZE\na-long-name    1 B\nb              20 MB\n"
