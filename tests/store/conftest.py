"""Fetches from an S3 of our own."""

from collections.abc import Callable, Iterator
from functools import cache as cache_results
from pathlib import Path
from typing import Any

import botocore.loaders
import botocore.session
import pytest

from pagemill.store import patience
from pagemill.store.fetch import fetch
from pagemill.store.references import ModelReference, resolve
from pagemill.store.remote import FetchOptions, RemoteReference
from support.s3_server import Bucket, s3_server, use

Fetch = Callable[..., ModelReference]


@pytest.fixture(scope="session")
def s3_address() -> Iterator[tuple[str, int]]:
    with s3_server() as address, pytest.MonkeyPatch.context() as patch:
        # botocore reads megabytes of JSON for each client
        patch.setattr(botocore.session, "create_loader", cache_results(botocore.loaders.create_loader))
        yield address


@pytest.fixture
def bucket(s3_address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, of the S3 that this process finds."""
    made = Bucket(*s3_address)
    use(monkeypatch, made.endpoint)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def fetched(cache: Path) -> Fetch:
    """Fetch a location, by default into the cache; any option may be given."""

    def run(location: str | RemoteReference, **options: Any) -> ModelReference:
        reference = resolve(location) if isinstance(location, str) else location
        assert isinstance(reference, RemoteReference)
        return fetch(reference, fetch_options(cache, **options))

    return run


def fetch_options(cache: Path, **options: Any) -> FetchOptions:
    small = FetchOptions(str(cache), concurrency=4, part_bytes=2**16, timeout_s=5, max_retries=8, sha256=None)
    return small._replace(**options)
