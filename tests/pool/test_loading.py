"""The pool: loads that are shared, and loads that fail; what readiness says meanwhile."""

import asyncio

import pytest

from pagemill.errors import ModelLoadError, ModelNotFoundError, PagemillError
from pagemill.pool import ModelPool
from pagemill.store.catalog import Catalog
from pagemill.store.references import ModelReference
from support.hand_driven_loader import FOREVER, SHORT_S, Loader, hold, reference, settle, until


async def test_start_returns_at_once_and_loads_the_first_model(pool: ModelPool, loader: Loader) -> None:
    loader.gate.clear()
    await pool.start()
    await settle()
    assert (pool.loading, pool.ready, pool.failure) == (True, False, None)
    loader.gate.set()
    await until(lambda: pool.ready)
    assert loader.calls == ["a"]
    assert [status.model.name for status in pool.loaded()] == ["a"]


async def test_a_pool_that_was_not_started_is_not_ready(pool: ModelPool) -> None:
    assert not pool.ready
    assert not pool.loading
    assert pool.loaded() == []


async def test_a_lease_loads_a_model_that_is_not_loaded(pool: ModelPool, loader: Loader) -> None:
    async with pool.lease("b") as model:
        assert model.name == "b"
        assert model.engine.alive
        assert model.info.format == "fake"
        assert model.tokenizer.vocab_size > 0
    assert loader.calls == ["b"]


async def test_leases_find_a_model_by_each_of_its_aliases(pool: ModelPool, loader: Loader) -> None:
    async with pool.lease("a") as one, pool.lease("a:latest") as other:
        assert one is other
    assert pool.find("b:latest").name == "b"
    assert [found.name for found in pool.references()] == ["a", "b"]


async def test_an_unknown_model_is_refused_before_the_lease_is_entered(pool: ModelPool) -> None:
    with pytest.raises(ModelNotFoundError, match="model 'c' not found"):
        pool.lease("c")
    for call in (pool.find, pool.info):
        with pytest.raises(ModelNotFoundError):
            call("c")
    with pytest.raises(ModelNotFoundError):
        await pool.unload("c")


async def test_leases_that_wait_share_one_load(pool: ModelPool, loader: Loader) -> None:
    loader.gate.clear()
    release = asyncio.Event()
    release.set()
    waiting = [asyncio.create_task(hold(pool, "a", release)) for _ in range(10)]
    await settle()
    loader.gate.set()
    models = await asyncio.gather(*waiting)
    assert loader.calls == ["a"]
    assert len({id(model) for model in models}) == 1


async def test_two_models_load_one_after_the_other(pool: ModelPool, loader: Loader) -> None:
    loader.gate.clear()
    release = asyncio.Event()
    release.set()
    waiting = [asyncio.create_task(hold(pool, name, release)) for name in ("a", "b")]
    await settle()
    assert loader.calls == ["a"]
    loader.gate.set()
    await asyncio.gather(*waiting)
    assert loader.calls == ["a", "b"]
    assert loader.max_running == 1


async def test_a_lease_given_up_during_the_load_leaves_the_load_to_the_others(pool: ModelPool, loader: Loader) -> None:
    loader.gate.clear()
    release = asyncio.Event()
    release.set()
    impatient, patient = (asyncio.create_task(hold(pool, "a", release)) for _ in range(2))
    await settle()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    loader.gate.set()
    assert (await patient).name == "a"
    assert loader.calls == ["a"]


async def test_a_load_that_everyone_gave_up_ends_and_its_model_expires(loader: Loader, pools: list[ModelPool]) -> None:
    pool = ModelPool(Catalog([reference("a")]), loader, keep_alive_s=SHORT_S)
    pools.append(pool)
    loader.gate.clear()
    only = asyncio.create_task(hold(pool, "a", asyncio.Event()))
    await settle()
    only.cancel()
    await asyncio.wait({only})
    loader.gate.set()
    await until(lambda: len(loader.backends) == 1)
    await until(lambda: pool.loaded() == [])
    assert loader.num_open == 0


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModelLoadError("a.gguf is broken"), r"a\.gguf is broken"),
        (OSError("no memory"), "can't load a: OSError: no memory"),
    ],
    ids=["ours", "any other"],
)
async def test_a_failed_load_is_told_to_every_waiting_lease(
    pool: ModelPool, loader: Loader, error: Exception, message: str
) -> None:
    loader.gate.clear()
    loader.error = error
    waiting = [asyncio.create_task(hold(pool, "a", asyncio.Event())) for _ in range(3)]
    await settle()
    loader.gate.set()
    for task in waiting:
        with pytest.raises(ModelLoadError, match=message):
            await task
    assert isinstance(pool.failure, PagemillError)
    assert not pool.ready
    assert not pool.loading
    assert loader.calls == ["a"]


@pytest.mark.parametrize("error", [ModelLoadError("broken"), OSError("no memory")], ids=["ours", "any other"])
async def test_a_failed_load_keeps_nothing_of_what_it_had_read(
    pool: ModelPool, loader: Loader, error: Exception
) -> None:
    """Its error is kept, and would keep the frames of the load, and they the weights."""
    try:
        raise MemoryError("out of it")
    except MemoryError as cause:
        error.__cause__ = cause
    loader.error = error
    with pytest.raises(ModelLoadError):
        async with pool.lease("a"):
            pass
    assert pool.failure is not None
    link: BaseException | None = pool.failure.__cause__
    while link is not None:
        assert link.__traceback__ is None
        link = link.__cause__


async def test_the_next_lease_tries_a_failed_load_again(pool: ModelPool, loader: Loader) -> None:
    loader.error = ModelLoadError("broken")
    with pytest.raises(ModelLoadError):
        async with pool.lease("a"):
            pass
    async with pool.lease("a") as model:
        assert model.name == "a"
    assert loader.calls == ["a", "a"]
    assert pool.failure is None
    assert pool.ready


async def test_a_failed_start_is_a_failure_and_not_a_crash(pool: ModelPool, loader: Loader) -> None:
    loader.error = ModelLoadError("broken")
    await pool.start()
    await until(lambda: pool.failure is not None)
    assert not pool.ready
    assert pool.alive


async def test_another_models_failure_leaves_the_first_ready(pool: ModelPool, loader: Loader) -> None:
    await pool.start()
    await until(lambda: pool.ready)
    loader.error = ModelLoadError("broken")
    with pytest.raises(ModelLoadError):
        async with pool.lease("b"):
            pass
    assert pool.ready
    assert pool.failure is None


class ChangingCatalog(Catalog):
    """One model, which may become another of its name."""

    def __init__(self, now: ModelReference) -> None:
        super().__init__([now])
        self.now = now

    def find(self, name: str) -> ModelReference | None:
        return self.now


async def test_who_waits_for_an_unload_gets_what_the_name_means_then(loader: Loader, pools: list[ModelPool]) -> None:
    catalog = ChangingCatalog(reference("a"))
    pools.append(ModelPool(catalog, loader, keep_alive_s=FOREVER))
    release = asyncio.Event()
    first = asyncio.create_task(hold(pools[0], "a", release))
    await until(lambda: bool(pools[0].loaded()))
    catalog.now = reference("a")
    unloading = asyncio.create_task(pools[0].unload("a"))
    await settle()
    second = asyncio.create_task(hold(pools[0], "a", release))
    await settle()
    release.set()
    models = await asyncio.gather(first, second)
    await unloading
    assert models[0].reference is not models[1].reference is catalog.now
