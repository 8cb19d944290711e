"""Reading ahead: the whole file gets into the page cache, and what can't be read is no error."""

import ctypes
import mmap
import os
from pathlib import Path

import pytest

from pagemill.settings import load_settings
from pagemill.store.availability import make_available
from pagemill.store.prefault import RANGE_BYTES, prefault
from pagemill.store.references import resolve_local
from support.served_process import clean_environment

SIZE = 2 * RANGE_BYTES + 12_345


def num_cached_pages(path: Path) -> int:
    """By mincore(2)."""
    size = path.stat().st_size
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    with path.open("rb") as file:
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        states = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
        assert libc.mincore(address, size, states) == 0
        libc.munmap(address, size)
    return sum(state & 1 for state in states.raw[: -(-size // mmap.PAGESIZE)])


@pytest.fixture
def cold(tmp_path: Path) -> Path:
    """A file that is on the disk only."""
    path = tmp_path / "cold.gguf"
    path.write_bytes(b"GGUF" + bytes(SIZE - 4))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if num_cached_pages(path) == -(-SIZE // mmap.PAGESIZE):
        pytest.skip("this file system keeps its files in memory")
    return path


def until_read(path: Path) -> None:
    with path.open("rb") as file:  # a read waits for what is on its way
        assert len(file.read()) == SIZE


def test_all_of_a_cold_file_is_asked_for(cold: Path) -> None:
    before = num_cached_pages(cold)
    for thread in prefault([cold]):
        thread.join()
    assert num_cached_pages(cold) > before
    until_read(cold)


def test_the_setting_reads_a_model_ahead(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[Path]] = []
    monkeypatch.setattr("pagemill.store.prefault.prefault", asked.append)
    reference = resolve_local(str(cold))
    for given in ({}, {"prefault": "true"}, {"prefault": "true", "mmap": "false"}):
        assert make_available(reference, load_settings(given, clean_environment())) is reference
    assert asked == [[cold]], "only if it is asked for, and the file is mapped"


def test_a_file_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert prefault([tmp_path / "nothing"]) == []
