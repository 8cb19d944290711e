"""A pool of models: loading on demand, leases, keep-alive and unloading.

A `ModelPool` owns one `ModelSlot` for each model that was ever asked for; all of it lives on one event loop, and
nothing else touches it. Load and unload run one at a time, each in a task of its own, so that a client that goes away
cancels only its wait. Under a memory budget a load first makes room. Leases of several models must not be nested: the
inner may wait for the outer to end. May not import a backend, HTTP or the dialects: what loads a model is handed in.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

from pagemill.errors import DrainingError, ModelLoadError, ModelNotFoundError, PagemillError
from pagemill.memory_need import MemoryNeed
from pagemill.pool.budget import ModelMemory
from pagemill.pool.loaded_model import LoadedModel
from pagemill.pool.room import LoadAbandonedError, Room
from pagemill.pool.slot import LoadedModelStatus, ModelSlot
from pagemill.store.catalog import Catalog
from pagemill.store.references import Reference

if TYPE_CHECKING:
    from pagemill.backends.base import ModelInfo

Load = Callable[[Reference, MemoryNeed | None], Awaitable[LoadedModel]]  # cancelled, it must free what it has made

logger = logging.getLogger(__name__)


class ModelPool:
    """Models by name. The catalog's default is the one that `start` loads and that readiness speaks of."""

    def __init__(
        self,
        catalog: Catalog,
        load: Load,
        *,
        keep_alive_s: float,
        memory: ModelMemory | None = None,
        max_loaded_models: int | None = None,
    ) -> None:
        self._catalog = catalog
        self._load = load
        self._keep_alive_s = keep_alive_s
        self._memory = memory
        self._slots: dict[str, ModelSlot] = {}  # by the reference's name
        self._room = None if memory is None else Room(memory, max_loaded_models, self._slots.values, self._evict)
        self._turn = asyncio.Lock()  # one load or unload at a time
        self._uses = count(1)
        self._draining = False

    async def start(self) -> None:
        """Begin to load the default model, if there is one; returns at once."""
        if self._catalog.default is not None:
            self._begin_load(self._slot_of(self._catalog.default))

    def references(self) -> tuple[Reference, ...]:
        """What can be served now."""
        return tuple(self._known(reference) for reference in self._catalog.references())

    @property
    def default(self) -> "Reference | None":
        """The model of requests that name none, if there is one."""
        return None if self._catalog.default is None else self._known(self._catalog.default)

    def find(self, name: str) -> Reference:
        """Raises ModelNotFoundError if no model has that name."""
        return self._slot(name).reference

    def info(self, name: str) -> "ModelInfo | None":
        """What is known of a model since it was last loaded; also when it has been unloaded again."""
        return self._slot(name).info

    def loaded(self) -> list[LoadedModelStatus]:
        """The loaded models; of one in use, `expires_at` is what it would be if it became idle now."""
        found = (slot.status() for slot in self._slots.values())
        return [status for status in found if status is not None]

    def slots(self) -> Sequence[ModelSlot]:
        """Every model that a load was ever tried of, for statistics."""
        return tuple(slot for slot in self._slots.values() if slot.num_loads or slot.num_failures)

    @property
    def memory(self) -> ModelMemory | None:
        """What keeps the budget, if there is one."""
        return self._memory

    @property
    def loading(self) -> bool:
        """Whether any model is being loaded."""
        return any(slot.loading is not None for slot in self._slots.values())

    @property
    def draining(self) -> bool:
        """Whether the server is shutting down."""
        return self._draining

    @property
    def failure(self) -> PagemillError | None:
        """Why the default model's last load failed."""
        first = self._default_slot
        return None if first is None else first.failure

    @property
    def alive(self) -> bool:
        """Whether no loaded engine is dead."""
        return all(slot.model.engine.alive for slot in self._slots.values() if slot.model and slot.unloading is None)

    @property
    def ready(self) -> bool:
        """Whether a request would be served now. A model that was unloaded because it was idle counts as ready, and so
        does a server that loads each model when it is asked for.
        """
        first = self._default_slot
        if first is None:
            loaded = self._catalog.default is None
        else:
            loaded = first.info is not None and first.loading is None and first.failure is None
        return loaded and not self._draining and self.alive

    def lease(self, name: str, keep_alive_s: float | None = None) -> AbstractAsyncContextManager[LoadedModel]:
        """Hold the model loaded: entering waits for its load, or begins one; leaving sets when it expires. Without a
        `keep_alive_s`, that of an earlier lease stays (a client that pins a model pins it for all, as with Ollama), and
        the pool's default holds after a load.

        Do not nest leases of one model: the inner would wait for an unload that waits for the outer.

        Raises:
            ModelNotFoundError: at once, if no model has that name.
            ModelLoadError, DrainingError: on entering.
        """
        return self._hold(self._slot(name), keep_alive_s)

    async def unload(self, name: str) -> None:
        """Unload the model when its present leases have ended; returns when it is unloaded. Later leases wait."""
        slot = self._slot(name)
        if slot.model is not None or slot.loading is not None:
            self._begin_unload(slot)
        if slot.unloading is not None:
            await asyncio.wait({slot.unloading})

    async def drain(self, timeout_s: float) -> None:
        """Refuse new leases, give up loads, let running requests end for so long, then abort them."""
        self._draining = True
        for slot in self._slots.values():
            if slot.loading is not None:
                slot.loading.cancel()
        engines = [slot.model.engine for slot in self._slots.values() if slot.model is not None]
        await asyncio.gather(*(engine.drain(timeout_s) for engine in engines))

    async def close(self) -> None:
        """Give up loads and close every engine, leased or not. Idempotent."""
        self._draining = True
        for slot in tuple(self._slots.values()):  # a request that comes meanwhile may add one
            slot.cancel_expiry()
            tasks = [task for task in (slot.loading, slot.unloading) if task is not None]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            await slot.close(reclaim_memory=False)  # the process ends

    @property
    def _default_slot(self) -> ModelSlot | None:
        reference = self._catalog.default
        return None if reference is None else self._slots.get(reference.name)

    def _known(self, reference: Reference) -> Reference:
        """The reference, or what a load has made of it."""
        slot = self._slots.get(reference.name)
        return slot.reference if slot is not None and slot.wanted is reference else reference

    def _slot(self, name: str) -> ModelSlot:
        reference = self._catalog.find(name)
        if reference is None:
            self._unload_what_is_gone(name)
            raise ModelNotFoundError(f"model '{name}' not found", param="model")
        return self._slot_of(reference)

    def _slot_of(self, reference: Reference) -> ModelSlot:
        """The slot of what the catalog has."""
        slot = self._slots.get(reference.name)
        if slot is None:
            slot = self._slots[reference.name] = ModelSlot(reference, reference, self._keep_alive_s)
        slot.renew(reference)
        return slot

    def _unload_what_is_gone(self, name: str) -> None:
        """A model whose files were removed is not found any more: nobody else would ask for its unload."""
        for slot in self._slots.values():
            if name in slot.reference.aliases and slot.model is not None:
                self._begin_unload(slot)

    @asynccontextmanager
    async def _hold(self, slot: ModelSlot, keep_alive_s: float | None) -> AsyncIterator[LoadedModel]:
        while not slot.door.is_set():
            await slot.door.wait()
        slot.enter(next(self._uses))
        try:
            yield await self._loaded_model(slot)
        finally:
            slot.leave()
            if keep_alive_s is not None:
                slot.keep_alive_s = keep_alive_s
            self._let_expire(slot)

    async def _loaded_model(self, slot: ModelSlot) -> LoadedModel:
        """The slot's model, which the caller's lease keeps from being unloaded."""
        while not self._draining:
            if slot.model is None:
                self._begin_load(slot)
            if slot.loading is not None:
                await asyncio.wait({slot.loading})  # unlike awaiting the task itself, it does not cancel it
            if slot.model is not None:
                return slot.model
            if slot.failure is not None:
                raise slot.failure.with_traceback(None)  # raised for every waiter: tracebacks must not pile up
        raise DrainingError("the server is shutting down")

    def _begin_load(self, slot: ModelSlot) -> None:
        if slot.loading is None and slot.model is None:
            slot.renew(self._catalog.find(slot.wanted.name) or slot.wanted)  # who waits may have come for another
            slot.failure = None
            slot.keep_alive_s = self._keep_alive_s
            slot.loading = asyncio.create_task(self._run_load(slot), name=f"load {slot.reference.name}")

    async def _run_load(self, slot: ModelSlot) -> None:
        name = slot.reference.name
        try:
            await self._load_into(slot)
        except LoadAbandonedError:
            logger.info("gave up to load %s: nobody waits for it", name)
        except PagemillError as error:
            logger.error("can't load %s: %s", name, error)
            slot.fail(error)
        except Exception as error:  # the boundary: whatever a loader raises must reach those who wait
            logger.exception("can't load %s", name)
            failure = ModelLoadError(f"can't load {name}: {type(error).__name__}: {error}")
            failure.__cause__ = error
            slot.fail(failure)
        finally:
            slot.num_failures += slot.failure is not None
            slot.loading = None
            self._let_expire(slot)

    async def _load_into(self, slot: ModelSlot) -> None:
        reference, need = slot.wanted, None
        if self._memory is not None:
            reference, need = await self._memory.estimate(reference)
        async with self._turn:
            if self._room is not None and need is not None:
                await self._room.make(slot, need)
            slot.model = await self._load(reference, need)
        slot.reference, slot.info, slot.need = slot.model.reference, slot.model.info, need
        slot.num_loads += 1
        slot.load_seconds += slot.model.load_duration_s
        logger.info("loaded %s in %.2f s", slot.reference.name, slot.model.load_duration_s)

    async def _evict(self, slot: ModelSlot) -> None:
        slot.num_evictions += 1
        await slot.close()
        logger.info("unloaded %s to make room", slot.reference.name)

    def _begin_unload(self, slot: ModelSlot) -> None:
        if slot.unloading is None:
            slot.cancel_expiry()
            slot.shut()
            slot.unloading = asyncio.create_task(self._run_unload(slot), name=f"unload {slot.reference.name}")

    async def _run_unload(self, slot: ModelSlot) -> None:
        try:
            await slot.idle.wait()
            if slot.loading is not None:
                await asyncio.wait({slot.loading})
            async with self._turn:
                await slot.close()
            logger.info("unloaded %s", slot.reference.name)
        finally:
            slot.unloading = None
            slot.open()

    def _let_expire(self, slot: ModelSlot) -> None:
        """Of a model that nobody holds, set when it is unloaded."""
        if slot.num_leases > 0 or slot.model is None or slot.unloading is not None or self._draining:
            return
        if slot.keep_alive_s == 0:
            self._begin_unload(slot)
        elif slot.keep_alive_s > 0:
            slot.set_expiry(self._begin_unload)
