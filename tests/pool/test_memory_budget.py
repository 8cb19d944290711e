"""The pool under a memory budget: who goes, who waits, and what is refused."""

import asyncio
import random

import pytest

from pagemill.errors import DrainingError, ModelTooLargeError
from pagemill.memory_need import MemoryNeed
from pagemill.pool import ModelPool
from pagemill.store.catalog import Catalog
from pagemill.store.references import ModelReference, Reference
from support.hand_driven_loader import FOREVER, Loader, hold, reference, settle, until


class Memory:
    """Of 25, the server itself takes 5, and each model 10, but "large"."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self.own = 5

    async def estimate(self, reference: Reference) -> tuple[ModelReference, MemoryNeed]:
        assert isinstance(reference, ModelReference)
        return reference, MemoryNeed(90 if reference.name == "large" else 6, 3, 1)

    def budget(self, device: str) -> int:
        return 25

    def resident(self, device: str) -> int:
        return self.own + 10 * self._loader.num_open


@pytest.fixture
def memory(loader: Loader) -> Memory:
    return Memory(loader)


@pytest.fixture
def pool_for_two(loader: Loader, pools: list[ModelPool], memory: Memory) -> ModelPool:
    catalog = Catalog([reference(name) for name in ("a", "b", "c", "large")])
    pools.append(ModelPool(catalog, loader, keep_alive_s=FOREVER, memory=memory))
    return pools[0]


def loaded_names(pool: ModelPool) -> list[str]:
    return [status.model.name for status in pool.loaded()]


async def test_the_least_recently_used_idle_model_makes_room(pool_for_two: ModelPool) -> None:
    for name in ("a", "b", "a", "c"):
        async with pool_for_two.lease(name):
            pass
    assert loaded_names(pool_for_two) == ["a", "c"]


async def test_an_idle_model_goes_before_one_in_use_that_was_leased_earlier(pool_for_two: ModelPool) -> None:
    async with pool_for_two.lease("a"):
        for name in ("b", "c"):
            async with pool_for_two.lease(name):
                pass
        assert loaded_names(pool_for_two) == ["a", "c"]


async def test_a_load_waits_for_models_in_use_and_later_leases_of_them_wait_for_it(
    pool_for_two: ModelPool, loader: Loader
) -> None:
    release, never_held = asyncio.Event(), asyncio.Event()
    never_held.set()
    holders = [asyncio.create_task(hold(pool_for_two, name, release)) for name in ("a", "b")]
    await until(lambda: loader.num_open == 2)
    waiting = asyncio.create_task(hold(pool_for_two, "c", never_held))
    await settle()
    later = asyncio.create_task(hold(pool_for_two, "a", never_held))
    await settle()
    assert loader.calls == ["a", "b"]
    release.set()
    await asyncio.gather(*holders, waiting, later)
    assert loader.calls == ["a", "b", "c", "a"]


async def test_a_model_beyond_the_budget_is_refused_with_the_numbers(pool_for_two: ModelPool, loader: Loader) -> None:
    async with pool_for_two.lease("a"):
        pass
    with pytest.raises(ModelTooLargeError, match=r"large needs .* \(weights .*, kv .*, compute .*\).* budget is"):
        async with pool_for_two.lease("large"):
            pass
    assert loaded_names(pool_for_two) == ["a"]
    assert loader.calls == ["a"]


@pytest.mark.parametrize("seed", range(5))
async def test_mixed_requests_all_end_and_the_budget_holds(pool_for_two: ModelPool, loader: Loader, seed: int) -> None:
    choose = random.Random(seed)
    most = 0

    async def client() -> None:
        nonlocal most
        for _ in range(25):
            async with pool_for_two.lease(choose.choice("abc"), choose.choice((None, 0, 0.01, FOREVER))):
                most = max(most, loader.num_open)
                await asyncio.sleep(choose.choice((0, 0, 0.001)))

    async with asyncio.timeout(30):
        await asyncio.gather(*(client() for _ in range(8)))
    assert most == 2


async def test_a_model_that_is_about_to_be_unloaded_anyway_makes_room(pool_for_two: ModelPool, loader: Loader) -> None:
    release = asyncio.Event()
    holders = [asyncio.create_task(hold(pool_for_two, name, release)) for name in ("a", "b")]
    await until(lambda: loader.num_open == 2)
    unloading = asyncio.create_task(pool_for_two.unload("a"))
    release.set()
    async with asyncio.timeout(5), pool_for_two.lease("c"):
        assert len(pool_for_two.loaded()) <= 2
    await asyncio.gather(*holders, unloading)


async def test_draining_gives_up_a_load_that_waits_for_room(pool_for_two: ModelPool, loader: Loader) -> None:
    release = asyncio.Event()
    holders = [asyncio.create_task(hold(pool_for_two, name, release)) for name in ("a", "b")]
    await until(lambda: loader.num_open == 2)
    waiting = asyncio.create_task(hold(pool_for_two, "c", release))
    await settle()
    await pool_for_two.drain(0)
    with pytest.raises(DrainingError):
        await waiting
    assert loader.calls == ["a", "b"]
    release.set()
    await asyncio.gather(*holders)
