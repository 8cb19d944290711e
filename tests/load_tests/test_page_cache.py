"""The page cache, on a file of this test's own."""

import os
from pathlib import Path

import pytest
from load_tests.page_cache import drop, read_bytes_per_s, resident_share

from load_tests import page_cache

SIZE = 5 * 2**20 + 123


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(SIZE))
    with path.open("rb") as file:
        os.fsync(file.fileno())  # dirty pages stay
    return path


@pytest.mark.parametrize("given", ["the file", "its folder"])
def test_a_file_is_in_the_cache_until_it_is_dropped(
    written: Path, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_cache, "DROP_CACHES", tmp_path / "no such folder" / "drop_caches")
    assert resident_share(written) == 1
    assert drop([written if given == "the file" else tmp_path]) == "posix_fadvise"
    if resident_share(written) == 1:
        pytest.skip("this file system keeps its pages (tmpfs)")
    assert resident_share(written) == 0


def test_the_whole_cache_is_dropped_where_that_is_allowed(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = written.with_name("drop_caches")
    asked.touch()
    monkeypatch.setattr(page_cache, "DROP_CACHES", asked)
    assert drop([written]) == "drop_caches"
    assert asked.read_text() == "1\n"
    assert resident_share(written) == 1


def test_all_of_a_file_is_read_to_time_it(written: Path) -> None:
    assert read_bytes_per_s(written) > 0
    assert resident_share(written) == 1
    written.write_bytes(b"less than a page")
    assert read_bytes_per_s(written) > 0
