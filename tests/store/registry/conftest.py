"""A registry to pull from."""

from collections.abc import Iterator

import pytest

from support.fake_registry import FakeRegistry, fake_registry


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as running:
        yield running
