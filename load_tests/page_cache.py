"""The kernel's page cache: emptied, looked at, and how fast files come from it and from the disk.

Owns no state. Linux only. What a running process has mapped stays: Python's own program and libraries do while the
benchmark, which is Python, runs.
"""

import ctypes
import mmap
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Literal

DROP_CACHES = Path("/proc/sys/vm/drop_caches")
READ_BYTES = 4 * 2**20
NUM_READERS = 8

Method = Literal["drop_caches", "posix_fadvise"]


def drop(folders_and_files: Sequence[Path]) -> Method:
    """Empty the page cache as a whole where we may, else of these files and of all files in these folders."""
    os.sync()  # what has not been written yet stays
    try:
        DROP_CACHES.write_text("1\n")
    except OSError:
        for path in folders_and_files:
            for file in (path,) if path.is_file() else (found for found in path.rglob("*") if found.is_file()):
                _forget(file)
        return "posix_fadvise"
    return "drop_caches"


def _forget(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def resident_share(file: Path) -> float:
    """Of a file's pages, those that are in the page cache, by mincore: 0 to 1."""
    size = file.stat().st_size
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
        start = ctypes.c_char.from_buffer(mapped)  # of a private mapping, which is never written
        try:
            failed = _mincore()(ctypes.addressof(start), size, pages)
        finally:
            del start  # the mapping can't be closed while it is pointed to
    if failed:
        raise OSError(ctypes.get_errno(), f"mincore: {os.strerror(ctypes.get_errno())}", str(file))
    return sum(page & 1 for page in pages) / len(pages)


def _mincore() -> "ctypes._NamedFuncPointer":
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    return mincore


def read_bytes_per_s(file: Path) -> float:
    """How fast the whole file is read now: big reads on several threads, into buffers that are used again."""
    size = file.stat().st_size
    share = -(-size // (NUM_READERS * READ_BYTES)) * READ_BYTES
    descriptor = os.open(file, os.O_RDONLY)
    try:
        began = time.perf_counter()
        with ThreadPoolExecutor(NUM_READERS) as readers:
            counts = list(readers.map(_read_range, repeat(descriptor), range(0, size, share), repeat(share)))
        elapsed_s = time.perf_counter() - began
    finally:
        os.close(descriptor)
    assert sum(counts) == size
    return size / elapsed_s


def _read_range(descriptor: int, first: int, num_bytes: int) -> int:
    """Bytes that were there to read."""
    buffer = bytearray(READ_BYTES)
    done = 0
    while done < num_bytes:
        count = os.preadv(descriptor, [buffer], first + done)
        if not count:
            break
        done += count
    return done
