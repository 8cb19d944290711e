"""Output for people and for pipes: tables, sizes, ages, durations. Owns no state; rich only on a terminal."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

UNITS = ("B", "KB", "MB", "GB", "TB")
GAP = 4  # spaces between columns


def write(text: str) -> None:
    """Text to standard output, as it is."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_line(text: str = "") -> None:
    write(text + "\n")


def write_error(text: str) -> None:
    """A line for the user beside the output proper."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def write_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns; on a terminal with a bold header, and cells cut to the width."""
    if sys.stdout.isatty():
        _write_rich(header, rows)
        return
    for row in (header, *rows):
        write_line(_aligned(row, [max(map(len, column)) for column in zip(header, *rows, strict=True)]))


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(cell.ljust(width + GAP) for cell, width in zip(row, widths, strict=True)).rstrip()


def _write_rich(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for title in header:
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def human_size(num_bytes: float) -> str:
    """Bytes in powers of ten, as Ollama's tables: 7.9 MB, 13 GB."""
    size, unit = float(num_bytes), 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {UNITS[unit]}" if unit and size < 10 else f"{size:.0f} {UNITS[unit]}"


def human_span(seconds: float) -> str:
    """A span of time in its largest unit: 5 minutes, 1 hour."""
    for unit, length in (("year", 31_536_000), ("month", 2_592_000), ("week", 604_800), ("day", 86_400),
                         ("hour", 3600), ("minute", 60), ("second", 1)):  # fmt: skip
        count = int(seconds // length)
        if count >= 1:
            return f"{count} {unit}" + ("s" if count > 1 else "")
    return "less than a second"


def human_age(moment: str) -> str:
    """How long ago an RFC 3339 moment was."""
    age = datetime.now(UTC) - datetime.fromisoformat(moment)
    return f"{human_span(age.total_seconds())} ago" if age > timedelta() else "now"


def human_until(moment: str) -> str:
    """How far off an RFC 3339 moment is; "Forever" beyond ten years, which is how Ollama's API says that."""
    left = datetime.fromisoformat(moment) - datetime.now(UTC)
    if left > timedelta(days=3650):
        return "Forever"
    return f"{human_span(left.total_seconds())} from now" if left > timedelta() else "Stopping..."


def human_duration(nanoseconds: int) -> str:
    """A measured duration: 1.234s, 12.345ms, 8.5µs."""
    for unit, length in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= length:
            return f"{nanoseconds / length:.6g}{unit}"
    return f"{nanoseconds}ns"
