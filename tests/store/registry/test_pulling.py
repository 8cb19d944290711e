"""Pulls from a registry: what comes, what is told meanwhile, what goes wrong, and how a pull goes on."""

import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import pytest

from pagemill.errors import ForbiddenError, ModelLoadError, ModelNotFoundError
from pagemill.settings import Settings
from pagemill.store.models_dir import ModelsDir
from pagemill.store.registry.client import Registry, RegistryClient, Token
from pagemill.store.registry.names import ModelName
from pagemill.store.registry.pulling import PullOptions, Pulls, Status
from support.fake_registry import FakeRegistry
from support.registry_models import digest_of, manifest_path, write_blob

PART_BYTES = 2**16
GGUF = b"GGUF" + bytes(range(256)) * 1200  # five parts
OPTIONS = PullOptions.of(
    Settings(registries=("*",), download_part_bytes=PART_BYTES, download_retries=1, download_timeout_s=5)
)

PULL = """
import asyncio, sys
from pathlib import Path
from pagemill.settings import Settings
from pagemill.store.registry.names import ModelName
from pagemill.store.registry.pulling import PullOptions, Pulls

async def main():
    folder, name, part_bytes = sys.argv[1:]
    options = PullOptions.of(Settings(registries=("*",), download_part_bytes=part_bytes))
    async for status in Pulls(Path(folder), options).pull(ModelName.parse(name), insecure=True):
        print(status.completed, flush=True)

asyncio.run(main())
"""


async def pulled(models_dir: Path, name: str, options: PullOptions = OPTIONS, *, insecure: bool = True) -> list[Status]:
    """All that a pull tells. `insecure`, since the registry of tests speaks no TLS."""
    return [status async for status in Pulls(models_dir, options).pull(ModelName.parse(name), insecure=insecure)]


def blob(models_dir: Path, content: bytes) -> Path:
    return models_dir / "blobs" / digest_of(content).replace(":", "-")


def files(models_dir: Path) -> list[str]:
    """Of the blobs, also the hidden ones."""
    return sorted(path.name for path in (models_dir / "blobs").iterdir())


async def test_a_pull_tells_of_each_blob_and_ends_with_verifying_writing_success(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    manifest = registry.put(GGUF, template=b"{{ .Prompt }}")
    told = await pulled(tmp_path, registry.name())
    assert told[0] == Status("pulling manifest")
    assert [status.status for status in told[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    for layer in (*manifest["layers"], manifest["config"]):
        of_blob = [status for status in told if status.digest == layer["digest"]]
        assert {(status.status, status.total) for status in of_blob} == {
            (f"pulling {layer['digest'][7:19]}", layer["size"])
        }
        counts = [status.completed for status in of_blob]
        assert counts == sorted(counts, key=lambda count: count or 0)
        assert counts[-1] == layer["size"]


async def test_a_pulled_model_is_on_the_disk_as_ollama_has_it(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.put(GGUF, tag="q8")
    await pulled(tmp_path, registry.name(tag="q8"))
    owner = f"{registry.host}/library"
    assert manifest_path(tmp_path, "tiny", "q8", owner).read_bytes() == registry.manifests["library/tiny:q8"]
    assert blob(tmp_path, GGUF).read_bytes() == GGUF
    assert all(name.startswith("sha256-") for name in files(tmp_path)), "something unfinished is left"
    (found,) = ModelsDir(tmp_path).look()
    assert (found.name, found.digest()) == (registry.name(tag="q8"), digest_of(GGUF))


async def test_a_blob_comes_in_parts_of_the_size_that_is_set(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.put(GGUF)
    await pulled(tmp_path, registry.name())
    of_gguf = sorted(set(registry.ranges) - {(0, 70)}, key=lambda run: run[0])
    assert max(end - start for start, end in of_gguf) == PART_BYTES
    assert len([run for run in of_gguf if run[1] - run[0] == PART_BYTES]) == len(GGUF) // PART_BYTES


async def test_what_is_here_is_not_fetched_again(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.put(GGUF, tag="one")
    registry.put(GGUF, tag="two")
    await pulled(tmp_path, registry.name(tag="one"))
    registry.requests.clear()
    told = await pulled(tmp_path, registry.name(tag="two"))
    assert registry.requests["blob"] == 0
    assert [status.completed for status in told if status.total] == [status.total for status in told if status.total]


async def test_a_blob_of_another_size_than_the_manifest_says_is_fetched_again(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.put(GGUF)
    write_blob(tmp_path, GGUF)
    blob(tmp_path, GGUF).write_bytes(GGUF[:100])
    await pulled(tmp_path, registry.name())
    assert blob(tmp_path, GGUF).read_bytes() == GGUF


async def test_a_registry_that_wants_a_token_gets_one_and_its_storage_does_not_see_it(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.put(GGUF)
    registry.wants_token = True
    await pulled(tmp_path, registry.name())
    assert registry.requests["token"] == 1
    assert blob(tmp_path, GGUF).read_bytes() == GGUF


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "ftp://127.0.0.1/token", "127.0.0.1", "http:", "http://[::"])
async def test_a_token_is_not_asked_for_anywhere(registry: FakeRegistry, tmp_path: Path, realm: str) -> None:
    registry.put(GGUF)
    registry.wants_token, registry.realm = True, realm
    with pytest.raises(ModelLoadError, match=r"pull model manifest: can't fetch .*/tiny:latest from "):
        await pulled(tmp_path, registry.name(), OPTIONS._replace(max_retries=0))
    assert registry.requests["token"] == 0


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"{}", b'{"token": 5}', b'{"token": "a\\nb"}'])
async def test_an_answer_that_has_no_token_is_told_of(registry: FakeRegistry, tmp_path: Path, answer: bytes) -> None:
    registry.put(GGUF)
    registry.wants_token, registry.token = True, answer
    with pytest.raises(ModelLoadError, match="was asked for a token and answers with none"):
        await pulled(tmp_path, registry.name())


@pytest.mark.parametrize("host", ["a:b:c", "127.0.0.1:99999", "a..b"])
async def test_a_host_that_is_none_is_told_of(tmp_path: Path, host: str) -> None:
    with pytest.raises(ModelLoadError, match=f"can't fetch {host}/a/b:latest from {host}: "):
        await pulled(tmp_path, f"{host}/a/b", OPTIONS._replace(max_retries=0))


def test_by_https_nothing_is_asked_by_http() -> None:
    """Not even what a registry redirects to, or where it sends us for tokens."""
    registry = Registry(ModelName.parse("registry.example/a/b"), False, Token())
    client = RegistryClient(registry, max_connections=1, timeout_s=1, max_retries=0, stopped=threading.Event())
    with closing(client), pytest.raises(ModelLoadError, match=r"sends us to http://127\.0\.0\.1/, which is not https"):
        client._client.get("http://127.0.0.1/")


@pytest.mark.parametrize("num_failures", [1, 3])
async def test_a_busy_registry_is_asked_again(registry: FakeRegistry, tmp_path: Path, num_failures: int) -> None:
    registry.put(GGUF)
    registry.statuses = [503] * num_failures
    await pulled(tmp_path, registry.name(), OPTIONS._replace(max_retries=3))
    assert blob(tmp_path, GGUF).read_bytes() == GGUF


async def test_answers_that_break_off_are_gone_on_with(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.put(GGUF)
    registry.cuts = [10_000, 1, 60_000, 3]
    await pulled(tmp_path, registry.name(), OPTIONS._replace(concurrency=1))
    assert blob(tmp_path, GGUF).read_bytes() == GGUF


async def test_a_pull_goes_on_from_what_an_earlier_one_left(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.put(GGUF)
    one_by_one = OPTIONS._replace(concurrency=1, max_retries=0)
    registry.cuts = [PART_BYTES, PART_BYTES, 1000]
    with pytest.raises(ModelLoadError, match=r"can't fetch .*tiny"):
        await pulled(tmp_path, registry.name(), one_by_one)
    assert not blob(tmp_path, GGUF).exists()
    registry.ranges.clear()
    await pulled(tmp_path, registry.name(), one_by_one)
    assert blob(tmp_path, GGUF).read_bytes() == GGUF
    assert min(start for start, end in registry.ranges if end > 1000) == 2 * PART_BYTES + 1000


def test_a_killed_pull_is_gone_on_with(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.put(GGUF)
    registry.held_from = 3 * PART_BYTES
    command = [sys.executable, "-c", PULL, str(tmp_path), registry.name(), str(PART_BYTES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip().isdigit() and int(line) >= 3 * PART_BYTES:
                break
        process.kill()
    assert not blob(tmp_path, GGUF).exists()
    registry.held_from = None
    registry.ranges.clear()
    asyncio.run(pulled(tmp_path, registry.name()))
    assert blob(tmp_path, GGUF).read_bytes() == GGUF
    assert min(start for start, end in registry.ranges if end > 1000) > 0


async def test_content_of_another_digest_is_refused_and_deleted(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.put(GGUF)
    registry.blobs[digest_of(GGUF)] = GGUF[:-1] + b"!"
    with pytest.raises(ModelLoadError, match=r"came damaged.*SHA256 is [0-9a-f]{64}, expected"):
        await pulled(tmp_path, registry.name())
    assert [name for name in files(tmp_path) if not name.endswith(".lock")] == []
    assert ModelsDir(tmp_path).look() == ()


@pytest.mark.parametrize("model", ["other", "tiny"])
async def test_what_the_registry_does_not_have_is_not_found(registry: FakeRegistry, tmp_path: Path, model: str) -> None:
    registry.put(GGUF)
    registry.blobs.clear()
    with pytest.raises(ModelNotFoundError, match=f"{registry.host} has no {registry.host}/library/{model}"):
        await pulled(tmp_path, registry.name(model))


async def test_a_registry_that_answers_with_the_whole_file_is_told_of(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.put(GGUF)
    registry.answers_whole = True
    with pytest.raises(ModelLoadError, match="answers a request for a range with the whole"):
        await pulled(tmp_path, registry.name())


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"layers": 5}', b'{"manifests": []}'])
async def test_a_manifest_that_is_none_is_told_of(registry: FakeRegistry, tmp_path: Path, content: bytes) -> None:
    registry.manifests["library/tiny:latest"] = content
    with pytest.raises(ModelLoadError, match=f"{registry.host} has of .* is no manifest"):
        await pulled(tmp_path, registry.name())


async def test_a_digest_in_a_manifest_cannot_lead_out_of_the_folder(registry: FakeRegistry, tmp_path: Path) -> None:
    manifest = registry.put(GGUF)
    manifest["layers"][0]["digest"] = "sha256:../../../etc/passwd"
    registry.manifests["library/tiny:latest"] = json.dumps(manifest).encode()
    with pytest.raises(ModelLoadError, match=r"digest 'sha256:\.\./"):
        await pulled(tmp_path, registry.name())


async def test_a_manifest_without_end_is_not_read_to_it(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.manifests["library/tiny:latest"] = b" " * (5 * 2**20)
    with pytest.raises(ModelLoadError, match="has over 4194304 bytes"):
        await pulled(tmp_path, registry.name())


async def test_a_registry_that_is_not_allowed_is_not_asked(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.put(GGUF)
    options = OPTIONS._replace(registries=("registry.ollama.ai", "hf.co"))
    with pytest.raises(ForbiddenError, match=rf"from registry.ollama.ai, hf.co, not from {registry.host}"):
        await pulled(tmp_path, registry.name(), options)
    assert not registry.requests
    await pulled(tmp_path, registry.name(), OPTIONS._replace(registries=(registry.host.upper(),)))


async def test_without_insecure_a_registry_is_asked_by_https(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.put(GGUF)
    with pytest.raises(ModelLoadError, match=r"SSL|TLS|ssl"):
        await pulled(tmp_path, registry.name(), OPTIONS._replace(max_retries=0), insecure=False)
    assert not registry.requests


async def test_a_full_disk_is_told_with_the_numbers(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.put(GGUF * 10)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    with pytest.raises(
        ModelLoadError, match=r"it needs 3 MB more, and 1 MB are free; make room there, or set models_dir"
    ):
        await pulled(tmp_path, registry.name())


async def test_a_folder_that_cannot_be_written_is_told_of(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.put(GGUF)
    (tmp_path / "blobs").write_text("no folder")
    with pytest.raises(ModelLoadError, match=r"can't write to .*blobs"):
        await pulled(tmp_path, registry.name())


async def test_pulls_of_one_blob_share_its_fetch(registry: FakeRegistry, tmp_path: Path) -> None:
    for tag in ("one", "two", "three"):
        registry.put(GGUF, tag=tag)
    registry.held_from = 0
    pulls = Pulls(tmp_path, OPTIONS)
    running = [pulls.pull(ModelName.parse(registry.name(tag=tag)), insecure=True) for tag in ("one", "two", "three")]
    for pull in running:
        while (await anext(pull)).digest != digest_of(GGUF):
            pass
    await running[0].aclose()  # who began it goes: the others go on waiting for it
    registry.held_from = None
    for pull in running[1:]:
        assert [status async for status in pull][-1] == Status("success")
    assert sum(end - start for start, end in registry.ranges if end - start > 1000) == len(GGUF)


async def test_when_nobody_waits_any_more_the_fetch_stops(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.put(GGUF)
    registry.held_from = 0
    pulls = Pulls(tmp_path, OPTIONS)
    pull = pulls.pull(ModelName.parse(registry.name()), insecure=True)
    while not (await anext(pull)).completed:
        pass
    await pull.aclose()
    registry.held_from = None
    await asyncio.sleep(0.2)
    assert not blob(tmp_path, GGUF).exists()
    await pulled(tmp_path, registry.name())
    assert blob(tmp_path, GGUF).read_bytes() == GGUF


async def test_a_failure_is_told_to_all_who_share_a_fetch(
    registry: FakeRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry.put(GGUF)
    registry.blobs[digest_of(GGUF)] = b"GGUF" * (len(GGUF) // 4)
    pulls = Pulls(tmp_path, OPTIONS)

    async def drain() -> None:
        async for _status in pulls.pull(ModelName.parse(registry.name()), insecure=True):
            pass

    with caplog.at_level(logging.ERROR):
        failures = await asyncio.gather(drain(), drain(), return_exceptions=True)
    assert [type(failure).__name__ for failure in failures] == ["ChecksumError"] * 2
    assert caplog.text == ""


async def test_a_newer_model_takes_the_place_of_an_older_one_and_its_blobs_go(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.put(b"GGUF old", license=b"the license")
    await pulled(tmp_path, registry.name())
    registry.put(GGUF, license=b"the license")
    await pulled(tmp_path, registry.name())
    assert not blob(tmp_path, b"GGUF old").exists()
    assert blob(tmp_path, b"the license").exists()
    assert [found.digest() for found in ModelsDir(tmp_path).look()] == [digest_of(GGUF)]


async def test_a_link_that_lies_in_the_place_of_a_fetch_is_not_followed(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.put(GGUF)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "blobs").mkdir()
    part = tmp_path / "blobs" / f".{blob(tmp_path, GGUF).name}.part"
    os.symlink(victim, part)
    with pytest.raises(ModelLoadError, match="can't write"):
        await pulled(tmp_path, registry.name())
    assert victim.read_bytes() == b"precious"
