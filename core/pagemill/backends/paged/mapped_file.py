"""Letting go of a mapped file's pages when they have been copied, so that they do not count for the process any more.

Owns no state but where the file is mapped. Linux only; elsewhere, and for what is mapped otherwise, it does nothing.
"""

import ctypes
import mmap
import sys
from functools import cached_property
from pathlib import Path

MAPS = Path("/proc/self/maps")
DONTNEED = 4  # MADV_DONTNEED on Linux: the pages are read from the file again should they be used again


class MappedFile:
    """One file, which is mapped already, once or more, privately, and was not written to."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def release(self, address: int, num_bytes: int) -> None:
        """Let go of all whole pages in that range of memory, if the file is mapped there."""
        end = (address + num_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
        start = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        if start < end and any(first <= start and end <= last for first, last in self._ranges):
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), DONTNEED)

    @cached_property
    def _ranges(self) -> list[tuple[int, int]]:
        """Addresses at which the file is mapped: any other memory would lose what it holds."""
        if sys.platform != "linux":
            return []
        name = str(self._path.resolve())
        found = []
        try:
            for line in MAPS.read_text(errors="surrogateescape").splitlines():
                span, _, rest = line.partition(" ")
                if rest.endswith(" " + name):
                    start, _, end = span.partition("-")
                    found.append((int(start, 16), int(end, 16)))
        except OSError:
            return []
        return found
