"""Reading ahead: the whole file gets into the page cache, and what can't be read is no error."""

import ctypes
import mmap
import os
import time
from pathlib import Path

import pytest

from pagemill.settings_layers import load_settings
from pagemill.store.availability import make_available
from pagemill.store.prefault import RANGE_BYTES, prefault
from pagemill.store.references import resolve_local
from support.served_process import clean_environment

SIZE = 2 * RANGE_BYTES + 12_345
NUM_PAGES = -(-SIZE // mmap.PAGESIZE)


def num_cached_pages(path: Path) -> int:
    """Of a file of that size, by mincore(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    with path.open("rb") as file:
        address = libc.mmap(None, SIZE, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        states = ctypes.create_string_buffer(NUM_PAGES)
        assert libc.mincore(address, SIZE, states) == 0
        libc.munmap(address, SIZE)
    return sum(state & 1 for state in states.raw[:NUM_PAGES])


@pytest.fixture
def cold(tmp_path: Path) -> Path:
    """A file that is on the disk only."""
    path = tmp_path / "cold.gguf"
    path.write_bytes(b"GGUF" + bytes(SIZE - 4))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if num_cached_pages(path) == NUM_PAGES:
        pytest.skip("this file system keeps its files in memory")
    return path


def is_read_ahead(path: Path) -> bool:
    """Within two seconds. Anybody may drop the machine's page cache meanwhile, so that a single try proves nothing."""
    for thread in prefault([path]):
        thread.join()
    deadline = time.monotonic() + 2
    while num_cached_pages(path) < NUM_PAGES and time.monotonic() < deadline:  # the kernel reads by itself now
        time.sleep(0.01)
    return num_cached_pages(path) == NUM_PAGES


def test_all_of_a_cold_file_is_asked_for(cold: Path) -> None:
    assert any(is_read_ahead(cold) for _ in range(10))


def test_the_setting_reads_a_model_ahead(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[Path]] = []
    monkeypatch.setattr("pagemill.store.prefault.prefault", asked.append)
    reference = resolve_local(str(cold))
    for given in ({}, {"prefault": "true"}, {"prefault": "true", "mmap": "false"}):
        assert make_available(reference, load_settings(given, clean_environment())) is reference
    assert asked == [[cold]], "only if it is asked for, and the file is mapped"


def test_a_file_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert prefault([tmp_path / "nothing"]) == []
