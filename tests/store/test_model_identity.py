"""The same model is known without being read, and another one is not taken for it."""

import os
import shutil
from pathlib import Path

import pytest

from pagemill.errors import ModelLoadError
from pagemill.store.model_identity import FileRecord, is_same_model, record_files
from pagemill.store.references import ModelReference, resolve

CONTENT = b"GGUF" + bytes(200_000)


def model_at(path: Path, content: bytes = CONTENT) -> ModelReference:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    reference = resolve(str(path))
    assert isinstance(reference, ModelReference)
    return reference


def identity(reference: ModelReference) -> tuple[str, tuple[FileRecord, ...]]:
    return reference.digest(), record_files(reference)


class UnreadableError(Exception):
    """All of the model was to be read."""


@pytest.fixture
def no_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(reference: ModelReference) -> str:
        raise UnreadableError

    monkeypatch.setattr(ModelReference, "digest", digest)


@pytest.fixture
def known(tmp_path: Path) -> tuple[str, tuple[FileRecord, ...]]:
    return identity(model_at(tmp_path / "a" / "m.gguf"))


def test_an_unchanged_file_is_not_read(
    tmp_path: Path, known: tuple[str, tuple[FileRecord, ...]], no_digests: None
) -> None:
    reference = resolve(str(tmp_path / "a" / "m.gguf"))
    assert isinstance(reference, ModelReference)
    assert is_same_model(reference, *known)


def test_nor_is_one_whose_time_an_image_layer_cut_to_whole_seconds(
    tmp_path: Path, known: tuple[str, tuple[FileRecord, ...]], no_digests: None
) -> None:
    copied = model_at(tmp_path / "b" / "m.gguf")
    [(*_, mtime_ns)] = known[1]
    os.utime(copied.path, ns=(0, mtime_ns // 10**9 * 10**9))
    assert is_same_model(copied, *known)


def test_a_copy_under_another_name_and_time_is_the_same_model(
    tmp_path: Path, known: tuple[str, tuple[FileRecord, ...]]
) -> None:
    assert is_same_model(model_at(tmp_path / "copy.gguf"), *known)


def test_another_content_is_another_model_even_with_the_same_size_and_time(
    tmp_path: Path, known: tuple[str, tuple[FileRecord, ...]]
) -> None:
    content = bytearray(CONTENT)
    content[100_000:180_000] = b"x" * 80_000  # as another fine-tune would differ
    other = model_at(tmp_path / "b" / "m.gguf", bytes(content))
    os.utime(other.path, ns=(0, known[1][0][3]))
    assert not is_same_model(other, *known)


def test_a_changed_configuration_makes_a_folder_another_model(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    before, copy = resolve(str(folder)), tmp_path / "copy"
    assert isinstance(before, ModelReference)
    known = identity(before)
    shutil.copytree(folder, copy)
    moved = resolve(str(copy))
    assert isinstance(moved, ModelReference)
    assert is_same_model(moved, *known)
    (copy / "config.json").write_text('{"rope_theta": 1}')
    changed = resolve(str(copy))
    assert isinstance(changed, ModelReference)
    assert not is_same_model(changed, *known)


def test_the_fake_model_has_no_files_but_a_digest() -> None:
    reference = resolve("fake")
    assert isinstance(reference, ModelReference)
    assert is_same_model(reference, *identity(reference))
    assert not is_same_model(reference, "sha256:00", ())


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").symlink_to(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{}")
    reference = resolve(str(folder))
    assert isinstance(reference, ModelReference)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelLoadError, match=r"can't read the model file .*config\.json: No such file"):
        record_files(reference)
