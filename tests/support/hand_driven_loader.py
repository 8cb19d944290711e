"""What the pool's tests drive by hand: a loader that waits at a gate, and leases that end when told."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pagemill.backends.fake import FakeBackend
from pagemill.engine.engine import Engine
from pagemill.memory_need import MemoryNeed
from pagemill.pool import LoadedModel, ModelPool
from pagemill.store.references import ModelReference, Reference

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

    async def __call__(self, reference: Reference, need: MemoryNeed | None) -> LoadedModel:
        assert isinstance(reference, ModelReference)
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
