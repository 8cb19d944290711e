"""The models that Ollama's layout on the disk holds, as references."""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagemill.store.models_dir import ModelsDir
from pagemill.store.references import ModelReference
from support.registry_models import digest_of, manifest_of, manifest_path, write_blob, write_model

GGUF = b"GGUF and so on"


def installed(models_dir: Path) -> tuple[ModelReference, ...]:
    return ModelsDir(models_dir).look()


def find(models_dir: Path, text: str) -> ModelReference | None:
    return ModelsDir(models_dir).find(text)


def test_a_model_is_called_as_ollama_prints_it(tmp_path: Path) -> None:
    path = write_model(tmp_path, "tiny", GGUF, "q8", template=b"{{ .Prompt }}")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    (found,) = installed(tmp_path)
    assert (found.name, found.format, found.size_bytes) == ("tiny:q8", "gguf", len(GGUF))
    assert found.aliases == ("tiny:q8", "library/tiny:q8", "registry.ollama.ai/library/tiny:q8")
    assert found.modified_at == datetime.fromtimestamp(1_700_000_000, tz=UTC)


def test_the_digest_is_known_without_reading_the_file(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny", GGUF)
    (found,) = installed(tmp_path)
    found.path.write_bytes(b"GGUF of another content")
    assert found.digest() == digest_of(GGUF)


@pytest.mark.parametrize(
    "text", ["tiny", "tiny:latest", "library/tiny", "registry.ollama.ai/library/tiny:latest", "Tiny:LATEST"]
)
def test_a_model_is_found_by_every_spelling(tmp_path: Path, text: str) -> None:
    write_model(tmp_path, "tiny", GGUF)
    found = find(tmp_path, text)
    assert found is not None
    assert (found.name, "tiny" in found.aliases) == ("tiny:latest", True)


@pytest.mark.parametrize("text", ["other", "tiny:q8", "../tiny", "a/b/c/d"])
def test_what_is_not_there_or_no_name_is_not_found(tmp_path: Path, text: str) -> None:
    write_model(tmp_path, "tiny", GGUF)
    assert find(tmp_path, text) is None


def test_models_of_other_hosts_keep_them_in_their_names(tmp_path: Path) -> None:
    path = manifest_path(tmp_path, "Repo-GGUF", "Q4_K_M", "hf.co/user")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(manifest_of(GGUF)))
    write_blob(tmp_path, GGUF)
    assert [found.name for found in installed(tmp_path)] == ["hf.co/user/Repo-GGUF:Q4_K_M"]


def test_a_folder_without_manifests_has_none(tmp_path: Path) -> None:
    assert installed(tmp_path) == ()
    assert find(tmp_path, "tiny") is None


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is no manifest"),
        ("[]", "is no manifest"),
        ('{"layers": [{"mediaType": "x", "digest": "sha256:../../x", "size": 1}]}', "digest 'sha256:../../x'"),
        ('{"layers": []}', "bad:latest has 0 GGUF files, not one"),
        (json.dumps(manifest_of(GGUF, adapter=b"GGUF")), "bad:latest has an adapter, which can't be applied"),
        (json.dumps(manifest_of(b"GGUF that is not here")), "can't read the model file"),
    ],
)
def test_what_cannot_be_served_is_passed_over_with_a_word(
    tmp_path: Path, content: str, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_model(tmp_path, "good", GGUF)
    write_model(tmp_path, "bad", GGUF).write_text(content)
    with caplog.at_level(logging.WARNING):
        assert [found.name for found in installed(tmp_path)] == ["good:latest"]
        assert find(tmp_path, "bad") is None
    assert complaint in caplog.text


def test_files_with_names_of_no_model_are_passed_over(tmp_path: Path) -> None:
    path = write_model(tmp_path, "tiny", GGUF)
    path.with_name(".latest.123").write_text("half")
    path.with_name("folder").mkdir()
    assert [found.name for found in installed(tmp_path)] == ["tiny:latest"]


def test_a_pulled_model_goes_before_a_file_of_its_name(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny", GGUF)
    (tmp_path / "tiny.gguf").write_bytes(GGUF)
    folder = ModelsDir(tmp_path)
    assert [found.name for found in folder.look()] == ["tiny.gguf", "tiny:latest"]
    assert folder.find("tiny").path.parent.name == "blobs"  # type: ignore[union-attr]


def test_a_model_that_comes_goes_or_changes_is_noticed_and_another_keeps_its_reference(tmp_path: Path) -> None:
    write_model(tmp_path, "old", GGUF)
    folder = ModelsDir(tmp_path)
    old = folder.find("old")
    path = write_model(tmp_path, "new", GGUF + b"!")
    new = folder.find("new")
    assert new is not None
    replaced = path.with_name(".next")
    replaced.write_text(json.dumps(manifest_of(GGUF)))
    replaced.replace(path)
    changed = folder.find("new")
    assert changed is not None
    assert (changed.path == new.path, changed.path == old.path, folder.find("old") is old) == (False, True, True)  # type: ignore[union-attr]
    path.unlink()
    assert folder.find("new") is None
