"""Pools on a hand-driven loader, closed at the end of each test."""

from collections.abc import AsyncIterator

import pytest

from pagemill.pool import ModelPool
from pagemill.store.catalog import Catalog
from support.hand_driven_loader import FOREVER, Loader, reference


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
async def pools() -> AsyncIterator[list[ModelPool]]:
    """Pools put here are closed at the end."""
    opened: list[ModelPool] = []
    yield opened
    for pool in opened:
        await pool.close()


@pytest.fixture
async def pool(loader: Loader, pools: list[ModelPool]) -> ModelPool:
    pools.append(ModelPool(Catalog([reference("a"), reference("b")]), loader, keep_alive_s=FOREVER))
    return pools[0]
