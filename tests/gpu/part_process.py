"""A part of the checks in a process of its own: what crashes, hangs or breaks the device takes only that part with it.

The process writes each row as a line of JSON when it has it. Imports no torch.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from threading import Timer
from typing import IO, Any, NamedTuple

LAST_LINES = 6  # of what a process that failed wrote to its standard error


class Row(NamedTuple):
    """One line of the table. `passed` is None for what is only measured."""

    section: str
    name: str
    value: str
    passed: bool | None = None
    figures: dict[str, Any] | None = None


def write_row(row: Row) -> None:
    """To the process that started this one."""
    print(json.dumps(row._asdict()), flush=True)


def rows_of_process(
    command: Sequence[str], section: str, name: str, *, limit_s: float, environment: dict[str, str] | None = None
) -> Iterator[Row]:
    """The rows that the command writes, as they come; one more that failed if it ends in any way but well."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        timer = Timer(limit_s, process.kill)
        timer.start()
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    yield Row(**json.loads(line))
            code = process.wait()
        finally:
            is_late = not timer.is_alive()
            timer.cancel()
            process.kill()
            process.wait()
            process.stdout.close()
        if code != 0:
            yield Row(section, name, _why(code, limit_s if is_late else None, errors), False)


def _why(code: int, limit_s: float | None, errors: IO[str]) -> str:
    ended = f"exit code {code}" if limit_s is None else f"took longer than {limit_s:g} s"
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip()]
    return " | ".join([f"broke off: {ended}", *lines[-LAST_LINES:]])
