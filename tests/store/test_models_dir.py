"""The models of a folder: what is found, what it is called, and what changes when files come and go."""

import logging
import os
from pathlib import Path

import pytest

from pagemill.errors import SettingsError
from pagemill.store.models_dir import ModelsDir
from pagemill.store.references import Reference


def write_gguf(path: Path, content: bytes = b"GGUF and so on") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(b"12345678")
    return path


def names(folder: ModelsDir) -> list[str]:
    return [reference.name for reference in folder.look()]


def found(folder: ModelsDir, name: str) -> Reference:
    reference = folder.find(name)
    assert reference is not None
    return reference


def test_files_and_model_folders_are_called_by_their_paths(tmp_path: Path) -> None:
    write_gguf(tmp_path / "small.gguf")
    write_gguf(tmp_path / "org" / "large.Q4_K_M.gguf")
    write_folder(tmp_path / "org" / "folder")
    folder = ModelsDir(tmp_path)
    assert names(folder) == ["org/folder", "org/large.Q4_K_M", "small"]
    assert [reference.format for reference in folder.look()] == ["safetensors", "gguf", "gguf"]


@pytest.mark.parametrize("name", ["small", "small:latest", "small.gguf", "small.gguf:latest"])
def test_a_file_is_found_by_its_name_with_or_without_suffix_and_tag(tmp_path: Path, name: str) -> None:
    path = write_gguf(tmp_path / "small.gguf")
    assert found(ModelsDir(tmp_path), name).path == path  # type: ignore[union-attr]


def test_a_split_file_is_one_model_called_without_its_number(tmp_path: Path) -> None:
    for number in (1, 2):
        write_gguf(tmp_path / f"big-0000{number}-of-00002.gguf", b"GGUF" + bytes(number))
    (only,) = ModelsDir(tmp_path).look()
    assert (only.name, only.size_bytes) == ("big", 5 + 6)
    assert only.path.name == "big-00001-of-00002.gguf"


def test_what_is_no_model_is_passed_over(tmp_path: Path) -> None:
    write_gguf(tmp_path / "mmproj-vision.gguf")
    write_gguf(tmp_path / ".hidden.gguf")
    write_gguf(tmp_path / "weights.gguf.part")
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    assert names(ModelsDir(tmp_path)) == []


def test_gguf_files_beside_a_config_without_weights_are_models(tmp_path: Path) -> None:
    write_gguf(tmp_path / "repo" / "model-q8.gguf")
    (tmp_path / "repo" / "config.json").write_text("{}")
    assert names(ModelsDir(tmp_path)) == ["repo/model-q8"]


def test_a_damaged_file_is_not_served_and_complained_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_gguf(tmp_path / "broken.gguf", b"no such thing")
    folder = ModelsDir(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert names(folder) == names(folder) == []
    assert [record.getMessage() for record in caplog.records if "broken.gguf" in record.getMessage()] == [
        f"not served: {tmp_path / 'broken.gguf'} is not a GGUF file: it begins with b'no s', not b'GGUF'"
    ]


def test_a_file_with_the_name_of_a_folder_is_called_with_its_suffix(tmp_path: Path) -> None:
    write_folder(tmp_path / "twin")
    write_gguf(tmp_path / "twin.gguf")
    folder = ModelsDir(tmp_path)
    assert names(folder) == ["twin", "twin.gguf"]
    assert found(folder, "twin").format == "safetensors"
    assert found(folder, "twin.gguf").format == "gguf"


def test_a_file_that_is_dropped_in_is_found_at_once(tmp_path: Path) -> None:
    folder = ModelsDir(tmp_path)
    assert folder.find("late") is None
    write_gguf(tmp_path / "late.gguf")
    assert found(folder, "late").name == "late"
    write_gguf(tmp_path / "org" / "later.gguf")
    assert found(folder, "org/later").name == "org/later"


def test_a_file_that_is_removed_is_gone(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "passing.gguf")
    folder = ModelsDir(tmp_path)
    found(folder, "passing")
    os.utime(tmp_path, (1, 1))  # a file system with coarse times would tell a removal at once from none
    path.unlink()
    assert folder.find("passing") is None


def test_a_model_that_has_not_changed_keeps_its_reference(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "same.gguf")
    folder = ModelsDir(tmp_path)
    (first,) = folder.look()
    assert folder.look()[0] is first  # with it the digest, which takes long to compute
    write_gguf(path, b"GGUF of another kind")
    assert folder.look()[0] is not first


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    write_gguf(elsewhere / "linked.gguf")
    models = tmp_path / "models"
    models.mkdir()
    (models / "drive").symlink_to(elsewhere)
    (models / "circle").symlink_to(models)
    shown = names(ModelsDir(models))
    assert "drive/linked" in shown
    assert len(shown) < 10


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=f"models_dir: can't read .*{name}: "):
        ModelsDir(tmp_path / name)
