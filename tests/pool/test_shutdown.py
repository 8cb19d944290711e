"""The pool: draining, closing, and engines that are dead."""

import asyncio

import pytest

from pagemill.engine.engine import Engine
from pagemill.errors import DrainingError
from pagemill.pool import ModelPool
from pagemill.store.catalog import Catalog
from support.hand_driven_loader import SHORT_S, Loader, hold, reference, settle, until


async def test_draining_refuses_new_leases(pool: ModelPool) -> None:
    await pool.start()
    await until(lambda: pool.ready)
    await pool.drain(1)
    assert not pool.ready
    with pytest.raises(DrainingError):
        async with pool.lease("a"):
            pass


async def test_draining_gives_up_a_load_and_those_who_wait_for_it(pool: ModelPool, loader: Loader) -> None:
    loader.gate.clear()
    waiting = asyncio.create_task(hold(pool, "a", asyncio.Event()))
    await settle()
    await pool.drain(1)
    with pytest.raises(DrainingError):
        await waiting
    assert loader.num_running == 0
    assert not pool.loading


async def test_closing_closes_every_engine_also_leased_ones(pool: ModelPool, loader: Loader) -> None:
    release = asyncio.Event()
    holders = [asyncio.create_task(hold(pool, name, release)) for name in ("a", "b")]
    await until(lambda: loader.num_open == 2)
    unloading = asyncio.create_task(pool.unload("a"))
    await settle()
    await pool.close()
    await pool.close()
    assert loader.num_open == 0
    release.set()
    await asyncio.gather(*holders, unloading)


async def test_closing_in_the_middle_of_an_unload_still_closes_the_engine(pool: ModelPool, loader: Loader) -> None:
    async with pool.lease("a"):
        pass
    unloading = asyncio.create_task(pool.unload("a"))
    await asyncio.sleep(0)
    await pool.close()
    await unloading
    assert loader.num_open == 0


async def test_closing_leaves_no_task_and_no_timer_behind(loader: Loader) -> None:
    before = asyncio.all_tasks()
    pool = ModelPool(Catalog([reference("a"), reference("b")]), loader, keep_alive_s=SHORT_S)
    await pool.start()
    async with pool.lease("b", SHORT_S):
        pass
    loader.gate.clear()
    await pool.close()
    await asyncio.sleep(2 * SHORT_S)
    assert asyncio.all_tasks() == before
    assert loader.num_open == 0


async def test_an_engine_that_can_not_be_closed_is_still_let_go(
    pool: ModelPool, loader: Loader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool.lease("a") as model:
        engine = model.engine

    async def fail(_engine: Engine) -> None:
        raise OSError("stuck")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "close", fail)
        await pool.unload("a")
    assert pool.loaded() == []
    assert "closing a failed" in caplog.text
    await engine.close()


async def test_a_dead_engine_makes_the_pool_neither_alive_nor_ready(
    pool: ModelPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pool.start()
    await until(lambda: pool.ready and pool.alive)
    monkeypatch.setattr(Engine, "alive", property(lambda engine: False))
    assert (pool.alive, pool.ready) == (False, False)
