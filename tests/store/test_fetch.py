"""Fetching a model from S3: what is fetched, what is used again, what is checked, and what is refused."""

import builtins
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from pagemill.errors import ModelLoadError, ModelNotFoundError
from pagemill.store import memory_files
from pagemill.store.references import DEMO_FOLDER, resolve, resolve_local
from pagemill.store.remote import RemoteReference
from pagemill.store.verification import Verification
from store.conftest import Fetch
from support.cutting_proxy import CuttingProxy
from support.s3_server import Bucket, use

GGUF = b"GGUF" + os.urandom(300_000)
FOLDER = {
    "config.json": b"{}",
    "tokenizer.json": b"{ }",
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    ).encode(),
    "m-1.safetensors": b"weights, part 1",
    "m-2.safetensors": b"part 2",
}


def put_folder(bucket: Bucket, prefix: str = "qwen/tiny/") -> str:
    for name, content in FOLDER.items():
        bucket.put(prefix + name, content)
    return f"s3://{bucket.name}/{prefix}"


@pytest.fixture
def num_gets(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many ranges were asked for, as a list of one number."""
    from pagemill.store.s3_client import S3Client

    counted, real = [0], S3Client.open_range

    def counting(self: S3Client, *arguments: Any) -> Any:
        counted[0] += 1
        return real(self, *arguments)

    monkeypatch.setattr(S3Client, "open_range", counting)
    return counted


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_a_gguf_comes_whole_with_its_names_size_and_time(
    bucket: Bucket, fetched: Fetch, cache: Path, where: str
) -> None:
    location = bucket.put("llama/tiny-q8_0.gguf", GGUF)
    reference = fetched(location, **({"download_dir": "memory"} if where == "memory" else {}))
    assert reference.path.read_bytes() == GGUF
    assert (reference.name, reference.format, reference.size_bytes) == ("tiny-q8_0", "gguf", len(GGUF))
    assert location in reference.aliases
    stored = bucket.client.head_object(Bucket=bucket.name, Key="llama/tiny-q8_0.gguf")
    assert reference.modified_at == stored["LastModified"]
    assert reference.digest() == f"sha256:{hashlib.sha256(GGUF).hexdigest()}"
    assert cache.exists() == (where == "folder")


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_a_folder_comes_with_what_is_loaded_and_nothing_else(
    bucket: Bucket, fetched: Fetch, where: str, tmp_path: Path
) -> None:
    location = put_folder(bucket)
    for other in ("README.md", "pytorch_model.bin", "m-3.safetensors", "original/consolidated.pth"):
        bucket.put("qwen/tiny/" + other, b"something else")
    reference = fetched(location, **({"download_dir": "memory"} if where == "memory" else {}))
    assert (reference.name, reference.format) == ("tiny", "safetensors")
    names = {path.name for path in reference.path.iterdir() if not path.name.startswith(".")}
    assert names == set(FOLDER)
    local = tmp_path / "local"
    local.mkdir()
    for name, content in FOLDER.items():
        assert (reference.path / name).read_bytes() == content
        (local / name).write_bytes(content)
    assert reference.digest() == resolve_local(str(local)).digest(), (
        "where a model comes from must not show in its digest"
    )


def test_the_demo_folder_comes_as_it_is(bucket: Bucket, fetched: Fetch) -> None:
    folder = DEMO_FOLDER / "grist"
    for path in folder.iterdir():
        bucket.client.upload_file(str(path), bucket.name, f"grist/{path.name}")
    assert fetched(f"s3://{bucket.name}/grist").digest() == resolve_local("grist", backend="paged").digest()


def test_the_only_gguf_below_a_prefix_is_the_model_and_has_the_prefixs_name(bucket: Bucket, fetched: Fetch) -> None:
    bucket.put("llama/tiny/q8_0.gguf", GGUF)
    bucket.put("llama/tiny/README.md", b"read me")
    reference = fetched(f"s3://{bucket.name}/llama/tiny")
    assert (reference.name, reference.path.name, reference.format) == ("tiny", "q8_0.gguf", "gguf")


def test_a_split_gguf_comes_with_all_its_files(bucket: Bucket, fetched: Fetch) -> None:
    names = [f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, name in enumerate(names):
        bucket.put(f"llama/{name}", GGUF + bytes([number]))
    for location in (f"s3://{bucket.name}/llama/{names[0]}", f"s3://{bucket.name}/llama/"):
        for where in ({}, {"download_dir": "memory"}):
            reference = fetched(location, **where)
            assert reference.path.name == names[0]
            assert [path.read_bytes()[-1] for path in reference.weight_files()] == [0, 1]


def test_several_models_below_a_prefix_are_listed(bucket: Bucket, fetched: Fetch) -> None:
    bucket.put("llama/a.gguf", GGUF)
    bucket.put("llama/b.gguf", GGUF)
    with pytest.raises(ModelLoadError, match=r"2 GGUF files, name one of them; there are a.gguf, b.gguf"):
        fetched(f"s3://{bucket.name}/llama/")
    bucket.put("notes/read.me", b"")
    with pytest.raises(ModelLoadError, match=r"neither config.json nor GGUF; there are read.me"):
        fetched(f"s3://{bucket.name}/notes")


@pytest.mark.parametrize("path", ["nothing.gguf", "nothing/"])
def test_what_is_not_there_is_named(bucket: Bucket, fetched: Fetch, path: str) -> None:
    with pytest.raises(ModelNotFoundError, match=f"s3://{bucket.name}/{path} not found: .*no (such object|file lies)"):
        fetched(f"s3://{bucket.name}/{path}")
    with pytest.raises(
        ModelNotFoundError, match=f"s3://no-such-bucket/{path} not found: there is no bucket no-such-bucket"
    ):
        fetched(f"s3://no-such-bucket/{path}")


def test_a_copy_is_used_again_and_fetched_anew_when_the_object_changes(
    bucket: Bucket, fetched: Fetch, num_gets: list[int]
) -> None:
    location = bucket.put("tiny.gguf", GGUF)
    first = fetched(location)
    after_first = num_gets[0]
    assert fetched(location) == first
    assert num_gets[0] == after_first, "the copy must be used again"
    bucket.put("tiny.gguf", GGUF + b"more")
    assert fetched(location).path.read_bytes() == GGUF + b"more"


def test_a_copy_that_was_touched_is_fetched_anew(bucket: Bucket, fetched: Fetch) -> None:
    location = bucket.put("tiny.gguf", GGUF)
    path = fetched(location).path
    path.write_bytes(b"GGUF, but another")
    assert fetched(location).path.read_bytes() == GGUF


def test_what_does_not_belong_to_a_folder_any_more_is_deleted(bucket: Bucket, fetched: Fetch) -> None:
    location = put_folder(bucket)
    folder = fetched(location).path
    (folder / "mine.json").write_bytes(b"no copy of anything")
    bucket.client.delete_object(Bucket=bucket.name, Key="qwen/tiny/model.safetensors.index.json")
    bucket.client.delete_object(Bucket=bucket.name, Key="qwen/tiny/chat_template.jinja")
    bucket.put("qwen/tiny/model.safetensors", b"in one")
    reference = fetched(location)
    assert reference.size_bytes == len(b"in one")
    assert not (folder / "chat_template.jinja").exists()
    assert not (folder / "model.safetensors.index.json").exists()
    assert (folder / "mine.json").exists()


@pytest.mark.parametrize("path", ["tiny.gguf", "qwen/tiny/"])
def test_without_s3_a_whole_copy_is_used_and_half_a_one_is_not(
    bucket: Bucket, fetched: Fetch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    location = put_folder(bucket) if path.endswith("/") else bucket.put(path, GGUF)
    first = fetched(location)
    use(monkeypatch, "http://127.0.0.1:9")
    assert fetched(location, max_retries=1) == first
    assert "using the copy that was fetched before" in caplog.text
    first.weight_files()[-1].unlink()
    with pytest.raises(ModelLoadError, match=r"127\.0\.0\.1:9"):
        fetched(location, max_retries=1)


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
@pytest.mark.parametrize("where", ["folder", "memory"])
def test_a_wrong_checksum_is_refused_and_nothing_is_kept(
    bucket: Bucket, fetched: Fetch, cache: Path, algorithm: str, where: str
) -> None:
    options = {"download_dir": "memory"} if where == "memory" else {}
    location = bucket.put("tiny.gguf", GGUF, ChecksumAlgorithm=algorithm)
    fetched(location, **options)
    shutil.rmtree(cache, ignore_errors=True)
    bucket.damage("tiny.gguf")
    with pytest.raises(ModelLoadError, match=rf"{location} came damaged.*{algorithm} is [0-9a-f]+, expected [0-9a-f]+"):
        fetched(location, **options)
    assert [path for path in cache.rglob("*gguf*") if not path.name.endswith(".lock")] == []


def test_an_object_without_a_checksum_is_checked_by_its_etag(bucket: Bucket, fetched: Fetch) -> None:
    location = bucket.put("tiny.gguf", GGUF)
    bucket.stored("tiny.gguf").checksum_algorithm = None
    fetched(location, download_dir="memory")
    bucket.damage("tiny.gguf")
    with pytest.raises(ModelLoadError, match="its MD5 is"):
        fetched(location, download_dir="memory")


def test_an_object_uploaded_in_parts_is_checked_by_theirs(bucket: Bucket, fetched: Fetch) -> None:
    parts = [b"GGUF" + os.urandom(5 * 2**20 - 4), os.urandom(5 * 2**20), os.urandom(1000)]
    location = bucket.put_in_parts("tiny.gguf", parts)
    assert fetched(location, part_bytes=None).path.read_bytes() == b"".join(parts)
    bucket.damage("tiny.gguf")
    with pytest.raises(ModelLoadError, match="its MD5 of its parts is"):
        fetched(location, download_dir="memory", part_bytes=2**20 + 1)


def test_what_nothing_can_check_is_said(bucket: Bucket, fetched: Fetch, caplog: pytest.LogCaptureFixture) -> None:
    location = bucket.put("tiny.gguf", GGUF, ServerSideEncryption="aws:kms")
    bucket.stored("tiny.gguf").checksum_algorithm = None
    assert fetched(location).path.read_bytes() == GGUF
    assert f"{location} can't be checked: of its checksums in S3 (none) none can be computed here" in caplog.text


def test_the_sha256_of_the_settings_is_checked_and_known_afterwards(
    bucket: Bucket, fetched: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = bucket.put("tiny.gguf", GGUF)
    with pytest.raises(ModelLoadError, match=f"SHA256 is {hashlib.sha256(GGUF).hexdigest()}, expected {'ab' * 32}"):
        fetched(location, sha256="ab" * 32)
    sha256 = hashlib.sha256(GGUF).hexdigest()
    for _ in ("fetched", "used again"):
        reference = fetched(location, sha256=sha256)
        monkeypatch.setattr(Path, "open", None)  # the digest is known: nothing may be read for it
        assert reference.digest() == f"sha256:{sha256}"
        monkeypatch.undo()
        use(monkeypatch, bucket.endpoint)


def test_a_sha256_for_several_files_is_refused(bucket: Bucket, fetched: Fetch) -> None:
    with pytest.raises(ModelLoadError, match=r"model_sha256 is of a single file, and s3://\S+ has 6"):
        fetched(put_folder(bucket), sha256="ab" * 32)


def test_an_object_that_changes_during_the_fetch_is_refused(
    bucket: Bucket, fetched: Fetch, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = bucket.put("tiny.gguf", GGUF)
    changed = GGUF[:-1] + b"!"

    def change() -> None:
        bucket.put("tiny.gguf", changed)

    head, first_range = 10_000, 30_000
    with CuttingProxy((bucket.host, bucket.port), [head, first_range], on_cut=change) as proxy:
        use(monkeypatch, proxy.endpoint)
        with pytest.raises(ModelLoadError, match=f"{location} was changed while it was fetched"):
            fetched(location, concurrency=1)
        assert fetched(location).path.read_bytes() == changed, "what came of the old object must not be used"


def test_of_two_that_want_the_same_one_fetches_and_the_other_waits(
    bucket: Bucket, fetched: Fetch, num_gets: list[int]
) -> None:
    location = bucket.put("tiny.gguf", GGUF)
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetched(location))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reference.path.read_bytes() == GGUF for reference in found] == [True] * 4
    assert num_gets[0] == -(-len(GGUF) // 2**16), "each byte must be fetched once"


def test_a_fetch_that_is_stopped_ends_with_an_error(bucket: Bucket, fetched: Fetch) -> None:
    reference = resolve(bucket.put("tiny.gguf", GGUF))
    assert isinstance(reference, RemoteReference)
    reference.progress.stop()
    with pytest.raises(ModelLoadError, match="stopped"):
        fetched(reference)


def test_a_fetch_that_is_stopped_before_all_is_checked_keeps_nothing(
    bucket: Bucket, fetched: Fetch, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    reference = resolve(bucket.put("tiny.gguf", GGUF))
    assert isinstance(reference, RemoteReference)
    came = threading.Event()

    def stop_when_all_came(self: Verification, start: int, end: int) -> None:
        if reference.progress.fetched_bytes == len(GGUF):
            reference.progress.stop()
            came.set()

    monkeypatch.setattr(Verification, "advance", stop_when_all_came)
    with pytest.raises(ModelLoadError, match="stopped"):
        fetched(reference)
    assert came.is_set()
    assert [path for path in cache.rglob("*.gguf") if path.is_file()] == []


def test_a_file_system_without_locks_is_named(bucket: Bucket, fetched: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(ModelLoadError, match=r"can't lock .*\.tiny\.gguf\.lock: No locks available; set download_dir"):
        fetched(bucket.put("tiny.gguf", GGUF))


def test_progress_tells_how_much_is_here(bucket: Bucket, fetched: Fetch) -> None:
    reference = resolve(bucket.put("tiny.gguf", GGUF * 10))
    assert isinstance(reference, RemoteReference)
    assert str(reference.progress) == ""
    fetched(reference)
    assert str(reference.progress) == "3 of 3 MB fetched"


def test_a_disk_without_room_is_told_with_the_numbers(
    bucket: Bucket, fetched: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    location = bucket.put("tiny.gguf", GGUF * 10)
    with pytest.raises(ModelLoadError, match=r"it needs 3 MB more, and 1 MB are free; set download_dir"):
        fetched(location)


def test_memory_that_does_not_suffice_is_told_with_the_numbers(
    bucket: Bucket, fetched: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_files, "available_memory_bytes", lambda: 10**6)
    location = bucket.put("tiny.gguf", GGUF * 10)
    with pytest.raises(ModelLoadError, match=r"it has 3 MB, and 1 MB are free; set download_dir to a folder"):
        fetched(location, download_dir="memory")


def test_memory_goes_with_the_reference(bucket: Bucket, fetched: Fetch) -> None:
    reference = fetched(put_folder(bucket), download_dir="memory")
    folder = reference.path
    descriptors = {os.readlink(path).rpartition("/")[2] for path in folder.iterdir()}
    assert descriptors <= set(os.listdir("/proc/self/fd"))
    del reference
    assert not folder.exists()
    assert not any(os.path.exists(f"/proc/self/fd/{number}") for number in descriptors)


def test_a_folder_that_cannot_be_written_is_named(bucket: Bucket, fetched: Fetch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(ModelLoadError, match=r"can't write to .*file/s3/.*: Not a directory; set download_dir"):
        fetched(bucket.put("tiny.gguf", GGUF), download_dir=str(tmp_path / "file"))


def test_without_a_setting_the_users_cache_is_used_or_memory_if_that_cannot_be_written(
    bucket: Bucket, fetched: Fetch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    location = bucket.put("tiny.gguf", GGUF)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert fetched(location, download_dir=None).path.is_relative_to(tmp_path / "xdg" / "pagemill" / "models")
    (tmp_path / "file").write_bytes(b"in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert fetched(location, download_dir=None).path.parent == Path("/proc/self/fd")
    assert "fetching into memory" in caplog.text


def test_an_installation_without_boto3_says_what_to_install(
    bucket: Bucket, fetched: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = bucket.put("tiny.gguf", GGUF)
    real = builtins.__import__

    def without_boto3(name: str, *arguments: Any) -> Any:
        if name == "pagemill.store.fetching":
            raise ImportError("No module named 'boto3'")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_boto3)
    with pytest.raises(ModelLoadError, match=r"pip install 'pagemill\[aws\]' \(No module named 'boto3'\)"):
        fetched(location)


def test_without_credentials_the_error_says_what_to_set(
    bucket: Bucket, fetched: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = bucket.put("tiny.gguf", GGUF)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(
        ModelLoadError, match=rf"can't fetch {location}: Unable to locate credentials; set AWS_ACCESS_KEY"
    ):
        fetched(location)


def test_what_is_no_gguf_is_refused(bucket: Bucket, fetched: Fetch) -> None:
    with pytest.raises(ModelLoadError, match="not a GGUF file"):
        fetched(bucket.put("page.gguf", b"<html>"))
    with pytest.raises(ModelLoadError, match="not a GGUF file"):
        fetched(bucket.put("empty.gguf", b""))
