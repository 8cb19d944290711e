"""Which model a setting asks for: its SHA-256, of local files too."""

import hashlib
from pathlib import Path

import pytest

from pagemill.errors import ModelLoadError, SettingsError
from pagemill.settings import Settings
from pagemill.store.availability import check_settings, make_available
from pagemill.store.references import resolve_local

CONTENT = b"GGUF and weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(CONTENT)
    return path


def test_a_local_file_that_is_the_one_asked_for_is_taken_as_it_is(model: Path) -> None:
    reference = resolve_local(str(model))
    assert make_available(reference, Settings()) is reference
    for digits in (SHA256, SHA256.upper()):
        assert make_available(reference, Settings(model_sha256=digits)) is reference


def test_a_local_file_that_is_another_is_refused_with_both_values(model: Path) -> None:
    with pytest.raises(ModelLoadError, match=rf"tiny\.gguf is another file.*{SHA256}, model_sha256 is {'0' * 64}"):
        make_available(resolve_local(str(model)), Settings(model_sha256="0" * 64))


def test_a_sha256_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelLoadError, match="model_sha256 is of a single GGUF file"):
        make_available(resolve_local(str(tmp_path)), Settings(model_sha256=SHA256))


@pytest.mark.parametrize("value", ["", "abc", "g" * 64, SHA256 + "0"])
def test_what_is_no_sha256_is_a_wrong_setting(value: str) -> None:
    with pytest.raises(SettingsError, match=f"model_sha256: not 64 hexadecimal digits, got '{value}'"):
        check_settings(Settings(model_sha256=value))
