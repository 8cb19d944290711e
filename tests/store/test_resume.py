"""Connections that are cut anywhere, and processes that are killed: a fetch goes on where it was."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagemill.errors import ModelLoadError
from pagemill.store.references import resolve
from pagemill.store.remote import RemoteReference
from store.conftest import Fetch
from support.cutting_proxy import CuttingProxy
from support.s3_server import Bucket, environment, use

CONTENT = b"GGUF" + os.urandom(2**18)
HEADERS = st.integers(0, 1200)  # an answer's headers are about 500 bytes
BODIES = st.integers(0, 2**17)
FETCH = """
import sys
from pagemill.store.fetch import fetch
from pagemill.store.references import resolve
from pagemill.store.remote import FetchOptions
fetch(resolve(sys.argv[1]), FetchOptions(sys.argv[2], 2, 2**18, 60, 0, None))
"""


@pytest.mark.filterwarnings("ignore::dateutil.parser.UnknownTimezoneWarning")  # a date that was cut
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(HEADERS | BODIES, max_size=8), in_memory=st.booleans())
def test_a_connection_cut_at_any_byte_resumes(
    cuts: list[int], in_memory: bool, bucket: Bucket, fetched: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = bucket.put("tiny.gguf", CONTENT)
    with CuttingProxy((bucket.host, bucket.port), cuts) as proxy, tempfile.TemporaryDirectory() as folder:
        use(monkeypatch, proxy.endpoint)
        reference = fetched(location, concurrency=2, download_dir="memory" if in_memory else folder)
        assert reference.path.read_bytes() == CONTENT


def test_a_part_goes_on_at_the_byte_where_it_was_cut(
    bucket: Bucket, fetched: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = bucket.put("tiny.gguf", CONTENT)
    cuts = [10_000, *[20_000] * 5]
    with CuttingProxy((bucket.host, bucket.port), cuts) as proxy:
        use(monkeypatch, proxy.endpoint)
        assert fetched(location, concurrency=1, part_bytes=2**20).path.read_bytes() == CONTENT
        assert proxy.num_cuts_left == 0
        assert len(CONTENT) < proxy.num_bytes < len(CONTENT) + 8 * 1500, "no byte of the content may come twice"


def test_connections_that_bring_something_may_be_cut_for_ever(
    bucket: Bucket, fetched: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = bucket.put("tiny.gguf", CONTENT)
    with CuttingProxy((bucket.host, bucket.port), [10_000, *[6_000] * 60]) as proxy:
        use(monkeypatch, proxy.endpoint)
        assert fetched(location, concurrency=1, max_retries=1).path.read_bytes() == CONTENT


def test_connections_that_bring_nothing_are_given_up(
    bucket: Bucket, fetched: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = bucket.put("tiny.gguf", CONTENT)
    with CuttingProxy((bucket.host, bucket.port), [10_000, *[100] * 100]) as proxy:
        use(monkeypatch, proxy.endpoint)
        with pytest.raises(ModelLoadError, match=f"can't fetch {location}"):
            fetched(location, concurrency=1, max_retries=2)
        assert proxy.num_cuts_left == 100 - 3


def test_a_connection_that_stalls_is_given_up_after_the_timeout(
    bucket: Bucket, fetched: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = bucket.put("tiny.gguf", CONTENT)
    with CuttingProxy((bucket.host, bucket.port), stall_after=50_000) as proxy:
        use(monkeypatch, proxy.endpoint)
        with pytest.raises(ModelLoadError, match=rf"can't fetch {location}.*[Tt]imed? ?out"):
            fetched(location, timeout_s=0.3, max_retries=0)


def test_a_killed_fetch_goes_on_where_it_was(
    bucket: Bucket, fetched: Fetch, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"GGUF" + os.urandom(2**22)
    location = bucket.put("tiny.gguf", content)
    with CuttingProxy((bucket.host, bucket.port), stall_after=2**21) as proxy:
        variables = {**os.environ, **environment(proxy.endpoint)}
        process = subprocess.Popen([sys.executable, "-c", FETCH, location, str(cache)], env=variables)
        assert proxy.stalled.wait(60)
        process.send_signal(signal.SIGKILL)
        process.wait()
    reference = resolve(location)
    assert isinstance(reference, RemoteReference)
    with CuttingProxy((bucket.host, bucket.port)) as proxy:
        use(monkeypatch, proxy.endpoint)
        assert fetched(reference, part_bytes=2**18).path.read_bytes() == content
        assert proxy.num_bytes < len(content) - 2**20, "what was recorded before the kill must not come again"


def test_a_damaged_part_of_a_killed_fetch_is_found_out(
    bucket: Bucket, fetched: Fetch, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = bucket.put("tiny.gguf", CONTENT)
    with CuttingProxy((bucket.host, bucket.port), [10_000, *[70_000] * 2, *[100] * 10]) as proxy:
        use(monkeypatch, proxy.endpoint)
        with pytest.raises(ModelLoadError):
            fetched(location, concurrency=1, max_retries=0)
    use(monkeypatch, bucket.endpoint)
    part = next(cache.rglob(".tiny.gguf.part"))
    with part.open("r+b") as file:
        file.seek(100)
        file.write(b"damage")
    with pytest.raises(ModelLoadError, match="came damaged"):
        fetched(location)
    assert fetched(location).path.read_bytes() == CONTENT, "what was damaged must be gone"
