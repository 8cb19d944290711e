"""How far a pull is, or the making of a model, for who waits: bars on a terminal, else each step once. Owns no state
beyond one of them.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pagemill.cli.tables import write_error

Show = Callable[[dict[str, Any]], None]


@contextmanager
def pull_progress() -> Iterator[Show]:
    """What shows a status, as /api/pull and /api/create tell it."""
    if sys.stderr.isatty():
        with _bars() as show:
            yield show
    else:
        yield _lines()


def _lines() -> Show:
    last = ""

    def show(status: dict[str, Any]) -> None:
        nonlocal last
        if status["status"] != last:
            last = status["status"]
            write_error(last)

    return show


@contextmanager
def _bars() -> Iterator[Show]:
    """A bar for each step that tells of a blob; the others are lines."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = ("{task.description}", BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    sizes = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, *sizes, console=Console(stderr=True)) as progress:
        bars: dict[str, Any] = {}

        def show(status: dict[str, Any]) -> None:
            step = status["status"]
            if "digest" not in status:
                progress.console.print(step, highlight=False)
                return
            if step not in bars:
                bars[step] = progress.add_task(step, total=status["total"])
            progress.update(bars[step], completed=status.get("completed", 0))

        yield show
