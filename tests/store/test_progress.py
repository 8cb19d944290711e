"""Progress: what probes are told, and the line on a terminal or in the log."""

import io
import logging
import sys

import pytest

from pagemill.store import progress
from pagemill.store.progress import Progress, ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def half() -> Progress:
    made = Progress()
    made.begin(640_000_000, 300_000_000)
    return made


def test_nothing_is_told_before_the_size_is_known(half: Progress) -> None:
    assert str(Progress()) == ""
    half.add(12_000_000)
    assert str(half) == "312 of 640 MB fetched"


def test_a_terminal_has_one_line_that_is_written_over(
    half: Progress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pagemill")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    line = ProgressLine("s3://b/k", half)
    line.show()
    half.add(340_000_000)
    line.show()
    line.end()
    assert terminal.getvalue().startswith("\rs3://b/k: 300 of 640 MB fetched, 0 MB/s\x1b[K\rs3://b/k: 640 of 640 MB")
    assert terminal.getvalue().endswith("\r\x1b[K"), "the line must make way for the log"
    assert "\n" not in terminal.getvalue()


def test_a_log_has_a_line_now_and_then_and_one_at_the_end(
    half: Progress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO, "pagemill"):
        line = ProgressLine("s3://b/k", half)
        line.show()
        assert caplog.messages == [], "it is not time yet"
        monkeypatch.setattr(progress, "LOG_EVERY_S", 0)
        line.show()
        half.add(340_000_000)
        line.end()
    assert [message.partition(",")[0] for message in caplog.messages] == [
        "s3://b/k: 300 of 640 MB fetched",
        "s3://b/k: 640 of 640 MB fetched",
    ]


def test_a_terminal_whose_log_hides_such_lines_has_none(
    half: Progress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pagemill")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    line = ProgressLine("s3://b/k", half)
    line.show()
    line.end()
    assert terminal.getvalue() == ""
