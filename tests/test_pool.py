"""The pool: loads that are shared, leases that hold, keep-alive that expires, and what readiness says meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pagemill.backends.fake import FakeBackend
from pagemill.engine.engine import Engine
from pagemill.errors import DrainingError, ModelLoadError, ModelNotFoundError, PagemillError
from pagemill.pool import LoadedModel, ModelPool
from pagemill.store.references import ModelReference

SHORT_S = 0.03
FOREVER = -1.0


def reference(name: str) -> ModelReference:
    return ModelReference(name, (name, f"{name}:latest"), Path(name), "fake", 0, datetime.now(UTC))


class Loader:
    """Loads when the test says so. `gate` opens by default; `error` is raised once, then forgotten."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.calls: list[str] = []
        self.num_running = 0
        self.max_running = 0
        self.backends: list[FakeBackend] = []

    async def __call__(self, reference: ModelReference) -> LoadedModel:
        self.calls.append(reference.name)
        self.num_running += 1
        self.max_running = max(self.max_running, self.num_running)
        try:
            await self.gate.wait()
        finally:
            self.num_running -= 1
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        backend = FakeBackend()
        self.backends.append(backend)
        engine = Engine(backend)
        engine.start()
        return LoadedModel(reference, engine, None, datetime.now(UTC), 0.0)

    @property
    def num_open(self) -> int:
        return sum(not backend.closed for backend in self.backends)


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
    pools.append(ModelPool([reference("a"), reference("b")], loader, keep_alive_s=FOREVER))
    return pools[0]


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.002)


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def hold(pool: ModelPool, name: str, release: asyncio.Event, keep_alive_s: float | None = None) -> LoadedModel:
    async with pool.lease(name, keep_alive_s) as model:
        await release.wait()
        return model


# Loading


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
    pool = ModelPool([reference("a")], loader, keep_alive_s=SHORT_S)
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


# Failure


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


# Keep-alive


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


async def test_a_lease_without_keep_alive_goes_back_to_the_default(pool: ModelPool) -> None:
    async with pool.lease("a", 60):
        pass
    assert pool.loaded()[0].expires_at is not None
    async with pool.lease("a"):
        pass
    assert pool.loaded()[0].expires_at is None


async def test_the_expiry_is_told_as_a_date(pool: ModelPool) -> None:
    async with pool.lease("a", 60):
        pass
    (status,) = pool.loaded()
    assert status.expires_at is not None
    assert abs(status.expires_at - datetime.now(UTC) - timedelta(seconds=60)) < timedelta(seconds=5)


async def test_a_keep_alive_of_nothing_by_default_unloads_after_the_start(
    loader: Loader, pools: list[ModelPool]
) -> None:
    pool = ModelPool([reference("a")], loader, keep_alive_s=0)
    pools.append(pool)
    await pool.start()
    await until(lambda: len(loader.backends) == 1 and loader.num_open == 0)
    await until(lambda: pool.ready)
    async with pool.lease("a") as model:
        assert model.engine.alive


# Unloading


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


# Draining and closing


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
    pool = ModelPool([reference("a"), reference("b")], loader, keep_alive_s=SHORT_S)
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
