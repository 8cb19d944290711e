"""Whatever clients do and in whatever order: the budget holds, leased models stay loaded, and every wait ends."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pagemill.pool import LoadedModel, ModelPool
from pagemill.store.catalog import Catalog
from support.hand_driven_loader import FOREVER, Loader, reference, settle
from support.model_memory import Memory

NAMES = ("a", "b", "c", "d")


class Client:
    """One lease: it waits for its model, then holds it until it is told to leave."""

    def __init__(self, pool: ModelPool, name: str, keep_alive_s: float | None) -> None:
        self.name = name
        self.model: LoadedModel | None = None  # while it is held
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._run(pool, keep_alive_s))

    async def _run(self, pool: ModelPool, keep_alive_s: float | None) -> None:
        try:
            async with pool.lease(self.name, keep_alive_s) as self.model:
                await self.leave.wait()
                self.model = None
        finally:
            self.model = None


class PoolMachine(RuleBasedStateMachine):
    """The budget is for two models of four."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clients: list[Client] = []
        self.unloads: list[asyncio.Task[None]] = []
        self.loader, self.pool = self.run(self._make())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    async def _make(self) -> tuple[Loader, ModelPool]:
        loader = Loader()
        catalog = Catalog([reference(name) for name in NAMES])
        return loader, ModelPool(catalog, loader, keep_alive_s=FOREVER, memory=Memory(loader))

    @rule(name=st.sampled_from(NAMES), keep_alive_s=st.sampled_from((None, 0, 0.001, FOREVER)))
    def come(self, name: str, keep_alive_s: float | None) -> None:
        async def begin() -> None:
            self.clients.append(Client(self.pool, name, keep_alive_s))
            await settle()

        self.run(begin())

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), patient=st.booleans())
    def go(self, data: st.DataObject, patient: bool) -> None:
        client = data.draw(st.sampled_from(self.clients))

        async def end() -> None:
            if patient:
                client.leave.set()
            else:
                client.task.cancel()
            await settle()

        self.run(end())

    @rule(name=st.sampled_from(NAMES))
    def unload(self, name: str) -> None:
        async def begin() -> None:
            self.unloads.append(asyncio.create_task(self.pool.unload(name)))
            await settle()

        self.run(begin())

    @rule(is_open=st.booleans())
    def let_loads_end(self, is_open: bool) -> None:
        async def turn() -> None:
            if is_open:
                self.loader.gate.set()
                await asyncio.sleep(0.002)
            else:
                self.loader.gate.clear()

        self.run(turn())

    @invariant()
    def the_budget_holds(self) -> None:
        assert self.loader.num_open + self.loader.num_running <= 2
        assert self.loader.max_running <= 1

    @invariant()
    def a_held_model_is_loaded_and_alive(self) -> None:
        loaded = {id(status.model) for status in self.pool.loaded()}
        for client in self.clients:
            if client.model is not None:
                assert id(client.model) in loaded
                assert client.model.engine.alive

    def teardown(self) -> None:
        async def end() -> None:
            self.loader.gate.set()
            for client in self.clients:
                client.leave.set()
            async with asyncio.timeout(10):
                await asyncio.gather(*(client.task for client in self.clients), *self.unloads, return_exceptions=True)
                for name in NAMES:
                    async with self.pool.lease(name) as model:
                        assert model.name == name
            await self.pool.close()
            assert self.loader.num_open == 0

        try:
            self.run(end())
        finally:
            self.loop.close()


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
