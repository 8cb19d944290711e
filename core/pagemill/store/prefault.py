"""Reads a model's files ahead into the page cache, many ranges at once, while the load maps them page by page.

Owns its threads, daemons that end by themselves. The kernel does the work, without the interpreter's lock; what is in
the cache already costs it next to nothing.
"""

import os
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

RANGE_BYTES = 2**23
NUM_THREADS = 4


def prefault(paths: Sequence[Path]) -> list[threading.Thread]:
    """Begin to read them ahead; returns at once. What can't be read is for the load to complain of."""
    ranges: deque[tuple[Path, int]] = deque()
    for path in paths:
        try:
            ranges += [(path, start) for start in range(0, path.stat().st_size, RANGE_BYTES)]
        except OSError:
            continue
    threads = [
        threading.Thread(target=_read_ahead, args=(ranges,), name="prefault", daemon=True)
        for _ in range(min(NUM_THREADS, len(ranges)))
    ]
    for thread in threads:
        thread.start()
    return threads


def _read_ahead(ranges: "deque[tuple[Path, int]]") -> None:
    descriptors: dict[Path, int] = {}
    try:
        while True:
            path, start = ranges.popleft()
            if path not in descriptors:
                descriptors[path] = os.open(path, os.O_RDONLY)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptors[path], start, RANGE_BYTES, os.POSIX_FADV_WILLNEED)
            else:  # macOS: what is read is thrown away, but stays in the cache
                os.pread(descriptors[path], RANGE_BYTES, start)
    except (IndexError, OSError):
        return
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)
