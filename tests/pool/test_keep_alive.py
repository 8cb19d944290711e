"""The pool: leases that hold, keep-alive that expires, unloading."""

import asyncio
from datetime import UTC, datetime, timedelta

from pagemill.pool import ModelPool
from pagemill.store.catalog import Catalog
from support.hand_driven_loader import FOREVER, SHORT_S, Loader, hold, reference, settle, until


async def test_an_idle_model_is_unloaded_when_its_time_is_up(pool: ModelPool, loader: Loader) -> None:
    async with pool.lease("a", SHORT_S):
        pass
    assert loader.num_open == 1
    await until(lambda: pool.loaded() == [])
    assert loader.num_open == 0


async def test_an_unloaded_model_counts_as_ready_and_is_loaded_again(pool: ModelPool, loader: Loader) -> None:
    async with pool.lease("a", 0):
        pass
    await until(lambda: pool.loaded() == [])
    assert loader.num_open == 0
    assert pool.ready
    info = pool.info("a")
    assert info is not None
    assert info.architecture == "fake"
    async with pool.lease("a") as model:
        assert model.engine.alive
    assert loader.calls == ["a", "a"]


async def test_a_model_in_use_never_expires(pool: ModelPool, loader: Loader) -> None:
    async with pool.lease("a", SHORT_S):
        pass
    async with pool.lease("a", 0):
        await asyncio.sleep(3 * SHORT_S)
        assert loader.num_open == 1
    await until(lambda: loader.num_open == 0)


async def test_one_of_two_leases_ending_keeps_the_model(pool: ModelPool, loader: Loader) -> None:
    release = asyncio.Event()
    other = asyncio.create_task(hold(pool, "a", release, 0))
    async with pool.lease("a", 0):
        pass
    await asyncio.sleep(SHORT_S)
    assert loader.num_open == 1
    release.set()
    await other
    await until(lambda: loader.num_open == 0)


async def test_the_last_lease_to_end_sets_the_expiry(pool: ModelPool, loader: Loader) -> None:
    async with pool.lease("a", FOREVER), pool.lease("a", 0):
        pass
    await asyncio.sleep(SHORT_S)
    assert loader.num_open == 1
    assert pool.loaded()[0].expires_at is None


async def test_a_lease_without_keep_alive_leaves_it_as_it_is(pool: ModelPool) -> None:
    async with pool.lease("a", 60):
        pass
    async with pool.lease("a"):
        pass
    assert pool.loaded()[0].expires_at is not None


async def test_a_model_that_is_loaded_again_has_the_default_keep_alive(pool: ModelPool, loader: Loader) -> None:
    async with pool.lease("a", 0):
        pass
    await until(lambda: pool.loaded() == [])
    async with pool.lease("a"):
        pass
    assert pool.loaded()[0].expires_at is None
    assert loader.calls == ["a", "a"]


async def test_the_expiry_is_told_as_a_date(pool: ModelPool) -> None:
    async with pool.lease("a", 60):
        pass
    (status,) = pool.loaded()
    assert status.expires_at is not None
    assert abs(status.expires_at - datetime.now(UTC) - timedelta(seconds=60)) < timedelta(seconds=5)


async def test_a_keep_alive_of_nothing_by_default_unloads_after_the_start(
    loader: Loader, pools: list[ModelPool]
) -> None:
    pool = ModelPool(Catalog([reference("a")]), loader, keep_alive_s=0)
    pools.append(pool)
    await pool.start()
    await until(lambda: len(loader.backends) == 1 and loader.num_open == 0)
    await until(lambda: pool.ready)
    async with pool.lease("a") as model:
        assert model.engine.alive


async def test_unload_waits_for_the_leases(pool: ModelPool, loader: Loader) -> None:
    release = asyncio.Event()
    holder = asyncio.create_task(hold(pool, "a", release))
    await until(lambda: loader.num_open == 1)
    unloading = asyncio.create_task(pool.unload("a"))
    await asyncio.sleep(SHORT_S)
    assert not unloading.done()
    assert loader.num_open == 1
    release.set()
    await holder
    await unloading
    assert loader.num_open == 0
    assert pool.loaded() == []


async def test_a_lease_during_an_unload_waits_and_gets_the_model_anew(pool: ModelPool, loader: Loader) -> None:
    release = asyncio.Event()
    holder = asyncio.create_task(hold(pool, "a", release))
    await until(lambda: loader.num_open == 1)
    unloading = asyncio.create_task(pool.unload("a"))
    await settle()
    late = asyncio.create_task(hold(pool, "a", release))
    await settle()
    assert loader.calls == ["a"]
    release.set()
    await unloading
    assert (await late) is not (await holder)
    assert loader.calls == ["a", "a"]


async def test_unloading_a_model_that_is_loading_waits_for_the_load(pool: ModelPool, loader: Loader) -> None:
    loader.gate.clear()
    await pool.start()
    await settle()
    unloading = asyncio.create_task(pool.unload("a"))
    await settle()
    assert not unloading.done()
    loader.gate.set()
    await unloading
    assert (len(loader.backends), loader.num_open) == (1, 0)


async def test_unloading_what_is_not_loaded_does_nothing(pool: ModelPool, loader: Loader) -> None:
    await pool.unload("a")
    assert loader.calls == []


async def test_several_may_unload_one_model_at_once(pool: ModelPool, loader: Loader) -> None:
    async with pool.lease("a"):
        pass
    await asyncio.gather(*(pool.unload("a") for _ in range(5)))
    assert loader.num_open == 0


async def test_giving_up_the_wait_for_an_unload_does_not_stop_it(pool: ModelPool, loader: Loader) -> None:
    release = asyncio.Event()
    holder = asyncio.create_task(hold(pool, "a", release))
    await until(lambda: loader.num_open == 1)
    unloading = asyncio.create_task(pool.unload("a"))
    await settle()
    unloading.cancel()
    await asyncio.wait({unloading})
    release.set()
    await holder
    await until(lambda: loader.num_open == 0)


async def test_an_expiry_during_an_unload_changes_nothing(pool: ModelPool, loader: Loader) -> None:
    async with pool.lease("a", SHORT_S):
        pass
    await pool.unload("a")
    async with pool.lease("a"):
        pass
    await asyncio.sleep(2 * SHORT_S)
    assert loader.num_open == 1
