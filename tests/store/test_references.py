"""References: which names and paths resolve to which model, and what is refused."""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagemill.errors import ModelLoadError, ModelNotFoundError
from pagemill.store import references
from pagemill.store.references import resolve, with_tag

CONTENT = b"GGUF" + bytes(range(200))


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-q8_0.gguf"
    path.write_bytes(CONTENT)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


def test_a_path_resolves_to_its_file(model_file: Path) -> None:
    reference = resolve(str(model_file))
    assert reference.name == "tiny-q8_0"
    assert reference.path == model_file
    assert reference.format == "gguf"
    assert reference.size_bytes == len(CONTENT)
    assert reference.modified_at == datetime.fromtimestamp(1_700_000_000, tz=UTC)


def test_clients_may_use_the_file_name_with_or_without_tag_or_the_path(model_file: Path) -> None:
    aliases = resolve(str(model_file)).aliases
    assert {"tiny-q8_0", "tiny-q8_0:latest", str(model_file)} <= set(aliases)


def test_a_relative_path_and_a_home_path_resolve(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model_file.parent)
    monkeypatch.setenv("HOME", str(model_file.parent))
    assert resolve("tiny-q8_0.gguf").path.samefile(model_file)
    assert resolve("~/tiny-q8_0.gguf").path.samefile(model_file)


def test_served_names_replace_the_models_own(model_file: Path) -> None:
    reference = resolve(str(model_file), ["gpt-4", "mine:latest", "mine:v2"])
    assert reference.name == "gpt-4"
    assert set(reference.aliases) == {"gpt-4", "gpt-4:latest", "mine:latest", "mine", "mine:v2"}


@pytest.mark.parametrize("name", ["grist", "grist:latest"])
def test_the_demo_model_resolves_inside_the_package(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grist").mkdir()
    (tmp_path / "grist" / "grist-q8_0.gguf").write_bytes(CONTENT)
    monkeypatch.setattr(references, "DEMO_FOLDER", tmp_path)
    reference = resolve(name)
    assert reference.name == "grist"
    assert reference.aliases == ("grist", "grist:latest")
    assert reference.path == tmp_path / "grist" / "grist-q8_0.gguf"


def test_an_installation_without_the_demo_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "DEMO_FOLDER", tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"grist.*lacks.*grist-q8_0\.gguf"):
        resolve("grist")


def test_an_unknown_name_says_what_was_tried() -> None:
    with pytest.raises(ModelNotFoundError, match=r"'nemo'.*not a built-in model \(grist\).*file nemo does not exist"):
        resolve("nemo")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is a folder"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"GGU", b"PK\x03\x04 a zip"])
def test_a_file_without_the_magic_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"broken\.gguf is not a GGUF file"):
        resolve(str(path))


def test_the_digest_is_the_files_sha256(model_file: Path) -> None:
    assert resolve(str(model_file)).digest() == "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def test_the_digest_is_computed_once(model_file: Path) -> None:
    reference = resolve(str(model_file))
    first = reference.digest()
    model_file.unlink()
    assert reference.digest() == first


def test_a_file_that_went_away_has_no_digest(model_file: Path) -> None:
    reference = resolve(str(model_file))
    model_file.unlink()
    with pytest.raises(ModelLoadError, match="can't read the model file"):
        reference.digest()


def test_the_scripted_model_resolves_without_a_file() -> None:
    reference = resolve("fake", ["load-test"])
    assert (reference.name, reference.format, reference.size_bytes) == ("load-test", "fake", 0)
    assert reference.digest() == "sha256:" + hashlib.sha256(b"load-test").hexdigest()


@pytest.mark.parametrize(
    ("name", "tagged"),
    [("grist", "grist:latest"), ("grist:q4", "grist:q4"), ("host:80/a/b", "host:80/a/b:latest"), ("a/b:c", "a/b:c")],
)
def test_a_name_gets_its_default_tag(name: str, tagged: str) -> None:
    assert with_tag(name) == tagged
