"""Which bytes of an object are here already: a few lines beside the unfinished file, so that a killed fetch can go on.

A `Journal` owns its file. The first line says of which object the bytes are; each further one is a run of bytes,
appended after they were written. What a kill cut off of the last line is not counted.
"""

import os
from pathlib import Path
from typing import NamedTuple


class Run(NamedTuple):
    """Bytes from `start` to before `end`."""

    start: int
    end: int


class Journal:
    """Several threads may record at once: the kernel appends each line as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def open(self, identity: str, size_bytes: int) -> list[Run]:
        """The runs that are here, in order and without overlap. A journal of another object is begun anew."""
        header = f"{identity} {size_bytes}\n".encode()
        content = self._path.read_bytes() if self._path.exists() else b""
        lines = content.splitlines(keepends=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        if lines[:1] == [header]:
            if not content.endswith(b"\n"):
                os.truncate(self._path, content.rfind(b"\n") + 1)
            self._descriptor = os.open(self._path, flags)
            return _merged(_runs(lines[1:], size_bytes))
        self._descriptor = os.open(self._path, flags | os.O_TRUNC, 0o644)
        os.write(self._descriptor, header)
        return []

    def record(self, run: Run) -> None:
        os.write(self._descriptor, b"%d %d\n" % run)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def gaps(runs: list[Run], size_bytes: int) -> list[Run]:
    """What lies between the runs."""
    found, position = [], 0
    for run in [*runs, Run(size_bytes, size_bytes)]:
        if run.start > position:
            found.append(Run(position, run.start))
        position = max(position, run.end)
    return found


def _runs(lines: list[bytes], size_bytes: int) -> list[Run]:
    found = []
    for line in lines:
        numbers = line.split()
        if line.endswith(b"\n") and len(numbers) == 2 and all(number.isdigit() for number in numbers):
            run = Run(*map(int, numbers))
            if run.start < run.end <= size_bytes:
                found.append(run)
    return found


def _merged(runs: list[Run]) -> list[Run]:
    found: list[Run] = []
    for run in sorted(runs):
        if found and run.start <= found[-1].end:
            found[-1] = Run(found[-1].start, max(found[-1].end, run.end))
        else:
            found.append(run)
    return found
