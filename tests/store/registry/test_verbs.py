"""Models that are put, copied, created and deleted: what becomes of their blobs, and of damage."""

import errno
import json
import logging
import os
import threading
from contextlib import closing
from pathlib import Path

import pytest

from pagemill.errors import InvalidRequestError, ModelLoadError, ModelNotFoundError
from pagemill.store.models_dir import ModelsDir
from pagemill.store.registry import blobs, manifests, verbs
from pagemill.store.registry.names import ModelName
from support.registry_models import digest_of, manifest_of, manifest_path, write_blob, write_model

GGUF = b"GGUF and so on"


def name(text: str) -> ModelName:
    return ModelName.parse(text)


def names(models_dir: Path) -> list[str]:
    return [reference.name for reference in ModelsDir(models_dir).look()]


def kept(models_dir: Path) -> set[str]:
    """The digests of the blobs."""
    return {path.name.replace("-", ":") for path in (models_dir / "blobs").iterdir()}


def test_a_copy_is_another_name_for_the_same_blobs(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny", GGUF, template=b"{{ .Prompt }}")
    before = kept(tmp_path)
    verbs.copy(tmp_path, name("tiny"), name("hf.co/me/mine:q8"))
    assert names(tmp_path) == ["hf.co/me/mine:q8", "tiny:latest"]
    assert kept(tmp_path) == before


def test_what_is_deleted_takes_the_blobs_that_only_it_needed(tmp_path: Path) -> None:
    write_model(tmp_path, "one", GGUF, license=b"shared", template=b"only of one")
    write_model(tmp_path, "two", GGUF + b"!", license=b"shared")
    verbs.delete(tmp_path, name("one"))
    assert names(tmp_path) == ["two:latest"]
    assert kept(tmp_path) & {
        digest_of(b"shared"),
        digest_of(b"only of one"),
        digest_of(GGUF),
        digest_of(GGUF + b"!"),
    } == {
        digest_of(b"shared"),
        digest_of(GGUF + b"!"),
    }


def test_the_last_one_leaves_no_folder_but_those_of_the_store(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny", GGUF)
    verbs.delete(tmp_path, name("TINY"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "blobs", "manifests"]


def test_what_is_not_there_is_not_deleted_or_copied(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny", GGUF)
    with pytest.raises(ModelNotFoundError, match="model 'tiny:q8' not found"):
        verbs.delete(tmp_path, name("tiny:q8"))
    with pytest.raises(ModelNotFoundError, match="model 'other:latest' not found"):
        verbs.copy(tmp_path, name("other"), name("another"))
    assert names(tmp_path) == ["tiny:latest"]


def test_a_copy_over_another_model_deletes_what_that_one_needed(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny", GGUF)
    write_model(tmp_path, "other", b"GGUF of the other")
    verbs.copy(tmp_path, name("tiny"), name("other"))
    assert digest_of(b"GGUF of the other") not in kept(tmp_path)
    assert {reference.digest() for reference in ModelsDir(tmp_path).look()} == {digest_of(GGUF)}


def test_a_copy_onto_itself_changes_nothing(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny", GGUF)
    verbs.copy(tmp_path, name("tiny"), name("Tiny"))
    assert names(tmp_path) == ["tiny:latest"]
    assert digest_of(GGUF) in kept(tmp_path)


def test_beside_a_manifest_that_cannot_be_read_no_blob_is_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_model(tmp_path, "tiny", GGUF)
    write_model(tmp_path, "damaged", GGUF).write_text("{")
    before = kept(tmp_path)
    with caplog.at_level(logging.WARNING):
        verbs.delete(tmp_path, name("tiny"))
    assert kept(tmp_path) == before
    assert "may not be needed any more stay" in caplog.text


def test_a_damaged_model_can_be_deleted(tmp_path: Path) -> None:
    write_model(tmp_path, "damaged", GGUF).write_text("{")
    verbs.delete(tmp_path, name("damaged"))
    assert list(manifests.names(tmp_path)) == []


def test_a_manifest_cannot_name_blobs_that_are_not_here(tmp_path: Path) -> None:
    write_blob(tmp_path, GGUF)
    manifest = manifests.Manifest.parse(json.dumps(manifest_of(GGUF)).encode(), "a test")
    with pytest.raises(ModelLoadError, match=r"tiny:latest can't be had: its sha256:.* was deleted meanwhile"):
        verbs.put(tmp_path, name("tiny"), manifest)
    assert not manifest_path(tmp_path, "tiny").exists()


def test_names_that_lead_elsewhere_by_links_are_not_followed_out_by_deletes(tmp_path: Path) -> None:
    """A manifest may be a link; deleting it leaves what it leads to."""
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps(manifest_of(GGUF)))
    models_dir = tmp_path / "models"
    path = manifest_path(models_dir, "linked")
    path.parent.mkdir(parents=True)
    path.symlink_to(outside)
    verbs.delete(models_dir, name("linked"))
    assert outside.exists()
    assert not path.is_symlink()


@pytest.mark.parametrize("content", [GGUF, b""])
def test_an_upload_is_kept_if_it_is_what_its_digest_says(tmp_path: Path, content: bytes) -> None:
    with closing(blobs.Upload(tmp_path, digest_of(content))) as upload:
        upload.begin()
        upload.write(content[:5])
        upload.write(content[5:])
        assert not blobs.is_here(tmp_path, digest_of(content))
        upload.keep()
    assert blobs.path_of(tmp_path, digest_of(content)).read_bytes() == content
    assert kept(tmp_path) == {digest_of(content)}


def test_an_upload_of_something_else_leaves_nothing(tmp_path: Path) -> None:
    with closing(blobs.Upload(tmp_path, digest_of(GGUF))) as upload:
        upload.begin()
        upload.write(b"other")
        with pytest.raises(InvalidRequestError, match=f"digest mismatch, expected {digest_of(GGUF)}, got sha256:"):
            upload.keep()
    assert kept(tmp_path) == set()


def test_a_full_disk_ends_an_upload_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with closing(blobs.Upload(tmp_path, digest_of(GGUF))) as upload:
        upload.begin()
        with pytest.raises(ModelLoadError, match=r"can't write .*/sha256-.*: No space left on device"):
            upload.write(GGUF)
    assert kept(tmp_path) == set()


def test_many_who_copy_and_delete_at_once_leave_what_is_needed(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny", GGUF)
    failures: list[Exception] = []

    def come_and_go(number: int) -> None:
        try:
            for _ in range(20):
                verbs.copy(tmp_path, name("tiny"), name(f"copy{number}"))
                verbs.delete(tmp_path, name(f"copy{number}"))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert names(tmp_path) == ["tiny:latest"]
    assert ModelsDir(tmp_path).find("tiny").path.read_bytes() == GGUF  # type: ignore[union-attr]
