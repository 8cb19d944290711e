"""`pagemill serve s3://...`, as a process: it binds at once, fetches, loads, and answers."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pagemill.store.references import DEMO_FOLDER, resolve_local
from support.cutting_proxy import CuttingProxy
from support.s3_server import Bucket, environment, s3_server
from support.served_process import ServedProcess, served_process

pytestmark = pytest.mark.slow

GRIST = DEMO_FOLDER / "grist"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    """Grist as a GGUF and as a folder."""
    with s3_server() as address:
        made = Bucket(*address)
        made.put("models/grist-q8_0.gguf", (GRIST / "grist-q8_0.gguf").read_bytes())
        for path in GRIST.iterdir():
            if path.suffix != ".gguf":
                made.put(f"models/grist/{path.name}", path.read_bytes())
        yield made


def answer(served: ServedProcess, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "temperature": 0}
    reply = httpx.post(f"{served.address}/v1/chat/completions", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    text: str = reply.json()["choices"][0]["message"]["content"]
    return text


@pytest.fixture(scope="module")
def local_answer() -> str:
    with served_process(str(GRIST / "grist-q8_0.gguf"), "--port", "0", step_delay_s=None) as served:
        return answer(served, "grist-q8_0")


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_a_gguf_from_s3_answers_as_the_local_file(
    bucket: Bucket, where: str, tmp_path: Path, local_answer: str
) -> None:
    location = f"s3://{bucket.name}/models/grist-q8_0.gguf"
    folder = str(tmp_path) if where == "folder" else where
    flags = ("--port", "0", "--download-dir", folder)
    with served_process(location, *flags, step_delay_s=None, **environment(bucket.endpoint)) as served:
        assert answer(served, "grist-q8_0") == answer(served, location) == local_answer
        listed = httpx.get(f"{served.address}/api/tags").json()["models"][0]
        assert listed["size"] == (GRIST / "grist-q8_0.gguf").stat().st_size
        assert listed["digest"] == resolve_local("grist").identity().removeprefix("sha256:")
        assert httpx.get(f"{served.address}/v1/models").json()["data"][0]["created"] > 0
        assert "MB fetched" in served.log


def test_a_folder_from_s3_is_served_from_memory(bucket: Bucket) -> None:
    location = f"s3://{bucket.name}/models/grist/"
    variables = environment(bucket.endpoint) | {"PAGEMILL_DOWNLOAD_DIR": "memory"}
    with served_process(location, "--port", "0", step_delay_s=None, **variables) as served:
        assert answer(served, "grist")


def test_while_it_fetches_it_says_how_far_it_is_and_ends_at_once_if_asked_to(bucket: Bucket, tmp_path: Path) -> None:
    location = f"s3://{bucket.name}/models/grist-q8_0.gguf"
    with CuttingProxy((bucket.host, bucket.port), stall_after=2_600_000) as proxy:
        variables = environment(proxy.endpoint) | {"PAGEMILL_DOWNLOAD_PART_BYTES": "65536"}
        flags = ("--port", "0", "--download-dir", str(tmp_path), "--download-concurrency", "1")
        with served_process(location, *flags, step_delay_s=None, wait_ready=False, **variables) as served:
            assert proxy.stalled.wait(60)
            while not (found := re.search(r"listening at (\S+)", served.log)):
                time.sleep(0.02)
            ready = httpx.get(f"{found[1]}/readyz")
            assert (ready.status_code, httpx.get(f"{found[1]}/livez").status_code) == (503, 200)
            assert re.fullmatch(r"grist-q8_0 is loading: [23] of 5 MB fetched", ready.json()["error"]["message"])
            (listed,) = httpx.get(f"{found[1]}/api/tags").json()["models"]
            assert listed["name"] == "grist-q8_0:latest"
            assert not {"digest", "size", "modified_at"} & set(listed), "nobody knows them yet"
            assert httpx.get(f"{found[1]}/v1/models").json()["data"][0]["created"] == 0
            started = time.monotonic()
            served.process.terminate()
            assert served.wait() == 0
            assert time.monotonic() - started < 5


def test_what_cannot_be_fetched_ends_the_server_with_the_reason(bucket: Bucket) -> None:
    location = f"s3://{bucket.name}/models/nothing.gguf"
    variables = environment(bucket.endpoint)
    with served_process(location, "--port", "0", step_delay_s=None, wait_ready=False, **variables) as served:
        assert served.wait() == 1
        assert f"{location} not found: the bucket has no such object" in served.log


def test_a_wrong_sha256_is_refused_of_fetched_and_of_local_files(bucket: Bucket, tmp_path: Path) -> None:
    for model in (f"s3://{bucket.name}/models/grist-q8_0.gguf", "grist"):
        flags = ("--port", "0", "--model-sha256", "ab" * 32, "--download-dir", str(tmp_path))
        variables = environment(bucket.endpoint)
        with served_process(model, *flags, step_delay_s=None, wait_ready=False, **variables) as served:
            assert served.wait() == 1
            assert "ab" * 32 in served.log
            assert resolve_local("grist").digest().removeprefix("sha256:") in served.log
