"""A snapshot's file comes back as it was written, and any damage to it is told."""

import os
import stat
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest

from pagemill.errors import ModelLoadError
from pagemill.store.snapshot_file import MAGIC, PAGE_BYTES, SnapshotHead, open_snapshot, write_snapshot

DATA = bytes(range(256)) * 100


def head_of(data: bytes = DATA) -> SnapshotHead:
    return SnapshotHead(
        made_by="pagemill 0",
        model="tiny",
        model_digest="sha256:00",
        model_files=(("tiny.gguf", 10, 5, 123),),
        backend="gguf",
        identity={"kv_cache_dtype": "f16", "block_size": 16},
        token_ids=tuple(range(1500)),
        num_bytes=len(data),
        crc32=crc32(data),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "tiny.gguf.snapshot"
    write_snapshot(written, head_of(), memoryview(DATA))
    return written


def test_what_was_written_comes_back(path: Path) -> None:
    snapshot = open_snapshot(path)
    assert snapshot.head == head_of()
    assert bytes(snapshot.data) == DATA
    snapshot.verify()


def test_everyone_may_read_it_and_nothing_else_is_left(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(path.parent) == [path.name]


def test_the_size_is_that_of_the_file_and_the_payload_begins_a_page(path: Path, tmp_path: Path) -> None:
    size = write_snapshot(tmp_path / "other", head_of(), memoryview(DATA))
    assert size == (tmp_path / "other").stat().st_size
    assert (size - len(DATA)) % PAGE_BYTES == 0


def test_what_is_written_into_the_data_stays_in_this_process(path: Path) -> None:
    open_snapshot(path).data[0] = 77
    assert bytes(open_snapshot(path).data) == DATA


def test_a_new_snapshot_takes_the_place_of_an_old_one_that_is_in_use(path: Path) -> None:
    before = open_snapshot(path)
    write_snapshot(path, head_of(b"other"), memoryview(b"other"))
    assert bytes(before.data) == DATA
    assert bytes(open_snapshot(path).data) == b"other"


@pytest.mark.parametrize("size", [0, 3, 12, 100, 5000, -1])
def test_a_file_that_is_cut_short_is_refused_and_named(path: Path, size: int) -> None:
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    with pytest.raises(ModelLoadError, match=r"tiny\.gguf\.snapshot"):
        open_snapshot(path).verify()


@pytest.mark.parametrize("position", [0, 9, 14, 60, -1, -len(DATA)])
def test_a_changed_byte_is_refused_and_the_file_named(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"tiny\.gguf\.snapshot"):
        open_snapshot(path).verify()


def test_a_file_of_another_kind_is_refused_with_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF and so on")
    with pytest.raises(ModelLoadError, match=r"model\.gguf is not a prefix snapshot: it begins with b'GGUF"):
        open_snapshot(path)


def test_another_format_is_refused_with_both_numbers(tmp_path: Path) -> None:
    path = tmp_path / "new.snapshot"
    write_snapshot(path, replace(head_of(), format=7), memoryview(DATA))
    with pytest.raises(ModelLoadError, match=r"new\.snapshot has format 7, this version of Pagemill reads 1"):
        open_snapshot(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"can't read the prefix snapshot .*none\.snapshot: No such file"):
        open_snapshot(tmp_path / "none.snapshot")


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"can't write the prefix snapshot .*missing/a\.snapshot"):
        write_snapshot(tmp_path / "missing" / "a.snapshot", head_of(), memoryview(DATA))


def test_it_begins_with_its_magic(path: Path) -> None:
    assert path.read_bytes().startswith(MAGIC)
