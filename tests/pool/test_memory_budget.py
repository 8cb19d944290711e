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
from support.model_memory import Memory


@pytest.fixture
def memory(loader: Loader) -> Memory:
    return Memory(loader)


@pytest.fixture
def pool_for_two(loader: Loader, pools: list[ModelPool], memory: Memory) -> ModelPool:
    catalog = Catalog([reference(name) for name in ("a", "b", "c", "large", "small")])
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
    with pytest.raises(
        ModelTooLargeError, match=r"large needs .* \(weights .*, KV cache .*, computing .*\).* budget is"
    ):
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


async def test_of_models_in_use_the_one_that_is_idle_first_makes_room(pool_for_two: ModelPool, loader: Loader) -> None:
    long, short = asyncio.Event(), asyncio.Event()
    holders = [asyncio.create_task(hold(pool_for_two, name, event)) for name, event in (("a", long), ("b", short))]
    await until(lambda: loader.num_open == 2)
    waiting = asyncio.create_task(hold(pool_for_two, "c", long))
    await settle()
    later = asyncio.create_task(hold(pool_for_two, "a", long))  # "a" is to go, and its door is shut
    short.set()
    await until(lambda: loader.calls == ["a", "b", "c"])
    await settle()
    assert sorted(loaded_names(pool_for_two)) == ["a", "c"]
    long.set()
    assert (await later) is (await holders[0])  # it was not unloaded after all
    await asyncio.gather(waiting, *holders)


async def test_a_load_that_nobody_waits_for_any_more_stops_waiting_for_room(
    pool_for_two: ModelPool, loader: Loader
) -> None:
    release, at_once = asyncio.Event(), asyncio.Event()
    at_once.set()
    holders = [asyncio.create_task(hold(pool_for_two, name, release)) for name in ("a", "b")]
    await until(lambda: loader.num_open == 2)
    waiting = asyncio.create_task(hold(pool_for_two, "c", at_once))
    await settle()
    waiting.cancel()
    async with asyncio.timeout(5):
        await hold(pool_for_two, "a", at_once)  # its door is open again
    assert not pool_for_two.loading
    release.set()
    await asyncio.gather(*holders)
    assert (await hold(pool_for_two, "c", at_once)).name == "c"
    assert loader.calls == ["a", "b", "c"]


async def test_what_the_server_itself_takes_counts(pool_for_two: ModelPool, memory: Memory) -> None:
    async with pool_for_two.lease("a"):
        pass
    memory.own = 9  # the server's caches have grown
    async with pool_for_two.lease("b"):
        pass
    assert loaded_names(pool_for_two) == ["b"]
    memory.own = 16
    with pytest.raises(ModelTooLargeError, match="the server itself takes"):
        async with pool_for_two.lease("c"):
            pass


async def test_no_more_models_are_loaded_than_may_be(loader: Loader, pools: list[ModelPool], memory: Memory) -> None:
    catalog = Catalog([reference("a"), reference("b")])
    pools.append(ModelPool(catalog, loader, keep_alive_s=FOREVER, memory=memory, max_loaded_models=1))
    for name in ("a", "b", "a"):
        async with pools[0].lease(name):
            assert loaded_names(pools[0]) == [name]


async def test_models_on_different_devices_do_not_compete(loader: Loader, pools: list[ModelPool]) -> None:
    class TwoDevices(Memory):
        async def estimate(self, reference: Reference) -> tuple[ModelReference, MemoryNeed]:
            found, need = await super().estimate(reference)
            return found, need._replace(device="cuda" if reference.name == "b" else "cpu")

        def budget(self, device: str) -> int:
            return 15

        def resident(self, device: str) -> int:
            return self.own

    catalog = Catalog([reference(name) for name in ("a", "b", "c")])
    pools.append(ModelPool(catalog, loader, keep_alive_s=FOREVER, memory=TwoDevices(loader)))
    for name in ("a", "b", "c"):
        async with pools[0].lease(name):
            pass
    assert loaded_names(pools[0]) == ["b", "c"]


async def test_what_the_server_took_is_not_forgotten_when_models_take_less_than_they_may(
    pool_for_two: ModelPool, memory: Memory
) -> None:
    memory.own, memory.untouched = 1, 0
    async with pool_for_two.lease("small"):
        pass
    memory.own, memory.untouched = 6, 8  # PyTorch was imported; "small" takes 2
    async with pool_for_two.lease("a"):
        pass
    assert loaded_names(pool_for_two) == ["small", "a"]
    memory.untouched = 16  # of "a" few pages were touched
    async with pool_for_two.lease("b"):
        pass
    assert loaded_names(pool_for_two) == ["b"]
