"""The loaded models: loading on demand, leases, keep-alive and unloading.

A `ModelPool` owns one `_Slot` for each reference, and everything in it; all of it lives on one event loop, and nothing
else touches it. Load and unload run one at a time, each in a task of its own, so that a client that goes away cancels
only its wait. Under a memory budget a load first makes room. Leases of several models must not be nested: the inner may
wait for the outer to end. May not import a backend, HTTP or the dialects: what loads a model is handed in.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from pagemill.errors import DrainingError, ModelLoadError, ModelNotFoundError, PagemillError
from pagemill.keep_alive import parse_keep_alive as parse_keep_alive  # offered here, beside what takes its result
from pagemill.loaded_model import LoadedModel as LoadedModel  # likewise, beside what gives it
from pagemill.memory_budget import MemoryBudget, Occupant, check_fits, choose_leavers
from pagemill.store.references import Reference

if TYPE_CHECKING:
    from pagemill.backends.base import ModelInfo

logger = logging.getLogger(__name__)


class LoadedModelStatus(NamedTuple):
    """A loaded model, and when it will be unloaded if it stays idle (None: never)."""

    model: LoadedModel
    expires_at: datetime | None


@dataclass(slots=True, eq=False)
class _Slot:
    """What the pool knows of one reference. While `unloading` is set, no new lease enters: it waits for the end of the
    unload, then has the model loaded again.
    """

    reference: Reference  # after a load the loaded model's: that of a model that had to be fetched knows more then
    keep_alive_s: float
    model: LoadedModel | None = None
    loading: "asyncio.Task[None] | None" = None
    unloading: "asyncio.Task[None] | None" = None
    failure: PagemillError | None = None  # of the last load, until the next one begins
    info: "ModelInfo | None" = None  # since the first load
    num_bytes: int = 0  # of memory that the loaded model counts for
    num_leases: int = 0  # held, or waiting for the load
    idle: asyncio.Event = field(default_factory=asyncio.Event)  # set while num_leases is 0
    expiry: asyncio.TimerHandle | None = None
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        self.idle.set()


class ModelPool:
    """Models by name. `load` makes a `LoadedModel`; cancelled, it must free what it has made.

    The first reference is the one that `start` loads and that readiness speaks of.
    """

    def __init__(
        self,
        references: Sequence[Reference],
        load: Callable[[Reference], Awaitable[LoadedModel]],
        *,
        keep_alive_s: float,
        memory: MemoryBudget | None = None,
    ) -> None:
        self._load = load
        self._keep_alive_s = keep_alive_s
        self._slots = [_Slot(reference, keep_alive_s) for reference in references]
        self._slot_by_name: dict[str, _Slot] = {}
        for slot in self._slots:
            for name in slot.reference.aliases:
                self._slot_by_name.setdefault(name, slot)
        self._memory = memory
        self._by_last_use = list(self._slots)  # the least recently leased first
        self._turn = asyncio.Lock()  # one load or unload at a time
        self._draining = False

    async def start(self) -> None:
        """Begin to load the first model; returns at once."""
        self._begin_load(self._slots[0])

    def references(self) -> tuple[Reference, ...]:
        return tuple(slot.reference for slot in self._slots)

    def find(self, name: str) -> Reference:
        """Raises ModelNotFoundError if no model has that name."""
        return self._slot(name).reference

    def info(self, name: str) -> "ModelInfo | None":
        """What is known of a model since it was last loaded; also when it has been unloaded again."""
        return self._slot(name).info

    def loaded(self) -> list[LoadedModelStatus]:
        """The loaded models; of one in use, `expires_at` is what it would be if it became idle now."""
        return [LoadedModelStatus(slot.model, _expires_at(slot)) for slot in self._slots if slot.model is not None]

    @property
    def loading(self) -> bool:
        """Whether any model is being loaded."""
        return any(slot.loading is not None for slot in self._slots)

    @property
    def failure(self) -> PagemillError | None:
        """Why the first model's last load failed."""
        return self._slots[0].failure

    @property
    def alive(self) -> bool:
        """Whether no loaded engine is dead."""
        return all(slot.model.engine.alive for slot in self._slots if slot.model and slot.unloading is None)

    @property
    def ready(self) -> bool:
        """Whether a request would be served now. A model that was unloaded because it was idle counts as ready."""
        first = self._slots[0]
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
        if slot.unloading is None and (slot.model is not None or slot.loading is not None):
            self._begin_unload(slot)
        if slot.unloading is not None:
            await asyncio.wait({slot.unloading})

    async def drain(self, timeout_s: float) -> None:
        """Refuse new leases, give up loads, let running requests end for so long, then abort them."""
        self._draining = True
        for slot in self._slots:
            if slot.loading is not None:
                slot.loading.cancel()
        engines = [slot.model.engine for slot in self._slots if slot.model is not None]
        await asyncio.gather(*(engine.drain(timeout_s) for engine in engines))

    async def close(self) -> None:
        """Give up loads and close every engine, leased or not. Idempotent."""
        self._draining = True
        for slot in self._slots:
            _cancel_expiry(slot)
            tasks = [task for task in (slot.loading, slot.unloading) if task is not None]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            await self._close_engine(slot)

    def _slot(self, name: str) -> _Slot:
        slot = self._slot_by_name.get(name)
        if slot is None:
            raise ModelNotFoundError(f"model '{name}' not found", param="model")
        return slot

    @asynccontextmanager
    async def _hold(self, slot: _Slot, keep_alive_s: float | None) -> AsyncIterator[LoadedModel]:
        while slot.unloading is not None:
            await asyncio.wait({slot.unloading})
        slot.num_leases += 1
        self._by_last_use.remove(slot)
        self._by_last_use.append(slot)
        slot.idle.clear()
        _cancel_expiry(slot)
        try:
            yield await self._loaded_model(slot)
        finally:
            slot.num_leases -= 1
            if keep_alive_s is not None:
                slot.keep_alive_s = keep_alive_s
            if slot.num_leases == 0:
                slot.idle.set()
                self._set_expiry(slot)

    async def _loaded_model(self, slot: _Slot) -> LoadedModel:
        """The slot's model, which the caller's lease keeps from being unloaded."""
        if self._draining:
            raise DrainingError("the server is shutting down")
        if slot.model is None:
            self._begin_load(slot)
            if slot.loading is not None:
                await asyncio.wait({slot.loading})  # unlike awaiting the task itself, it does not cancel it
        if slot.model is not None:
            return slot.model
        if slot.failure is not None:
            raise slot.failure.with_traceback(None)  # raised for every waiter: tracebacks must not pile up
        raise DrainingError("the server is shutting down")

    def _begin_load(self, slot: _Slot) -> None:
        if slot.loading is None and slot.model is None:
            slot.failure = None
            slot.keep_alive_s = self._keep_alive_s
            slot.loading = asyncio.create_task(self._run_load(slot), name=f"load {slot.reference.name}")

    async def _run_load(self, slot: _Slot) -> None:
        name = slot.reference.name
        try:
            async with self._turn:
                if self._memory is not None:
                    slot.num_bytes = await self._make_room(slot, self._memory)
                slot.model = await self._load(slot.reference)
            slot.reference, slot.info = slot.model.reference, slot.model.info
            logger.info("loaded %s in %.2f s", name, slot.model.load_duration_s)
        except PagemillError as error:
            slot.failure = error
            logger.error("can't load %s: %s", name, error)
        except Exception as error:  # the boundary: whatever a loader raises must reach those who wait
            slot.failure = ModelLoadError(f"can't load {name}: {type(error).__name__}: {error}")
            slot.failure.__cause__ = error
            logger.exception("can't load %s", name)
        finally:
            slot.loading = None
            if slot.num_leases == 0:
                self._set_expiry(slot)

    async def _make_room(self, slot: _Slot, memory: MemoryBudget) -> int:
        """The bytes that the slot's model will take, once they are free; called in its turn. Of models that must go
        (idle ones first) leases end, and later ones wait until after this load: it waits for none who came after it.
        """
        need = await memory.estimate(slot.reference)
        check_fits(slot.reference.name, need, memory.num_bytes)
        loaded = [other for other in self._by_last_use if other.model is not None]
        occupants = [Occupant(other.num_bytes, other.num_leases == 0) for other in loaded]
        leavers = [loaded[index] for index in choose_leavers(occupants, need.total, memory.num_bytes)]
        waiting = [leaver for leaver in leavers if leaver.unloading is not None]  # for this turn to end
        unloads = [self._begin_unload(leaver, has_turn=True) for leaver in leavers if leaver.unloading is None]
        for leaver in waiting:
            await leaver.idle.wait()
            await self._close_engine(leaver)
        for task in unloads:
            await asyncio.wait({task})  # unlike gather, it does not cancel them
        return need.total

    def _begin_unload(self, slot: _Slot, *, has_turn: bool = False) -> "asyncio.Task[None]":
        _cancel_expiry(slot)
        slot.unloading = asyncio.create_task(self._run_unload(slot, has_turn), name=f"unload {slot.reference.name}")
        return slot.unloading

    async def _run_unload(self, slot: _Slot, has_turn: bool) -> None:
        try:
            await slot.idle.wait()
            if slot.loading is not None:
                await asyncio.wait({slot.loading})
            async with nullcontext() if has_turn else self._turn:
                await self._close_engine(slot)
            logger.info("unloaded %s", slot.reference.name)
        finally:
            slot.unloading = None

    async def _close_engine(self, slot: _Slot) -> None:
        if slot.model is None:
            return
        try:
            await slot.model.engine.close()
        except Exception:  # the model is gone in any case, and nobody waits who could do more than log it
            logger.exception("closing %s failed", slot.reference.name)
        slot.model = None  # last: if this task is cancelled, close() must still find the engine, to close it again

    def _set_expiry(self, slot: _Slot) -> None:
        _cancel_expiry(slot)
        if slot.model is None or slot.unloading is not None or self._draining or slot.keep_alive_s < 0:
            return
        if slot.keep_alive_s == 0:
            self._begin_unload(slot)
            return
        slot.expires_at = _expires_at(slot)
        slot.expiry = asyncio.get_running_loop().call_later(slot.keep_alive_s, self._begin_unload, slot)


def _cancel_expiry(slot: _Slot) -> None:
    if slot.expiry is not None:
        slot.expiry.cancel()
    slot.expiry = slot.expires_at = None


def _expires_at(slot: _Slot) -> datetime | None:
    if slot.expires_at is not None:
        return slot.expires_at
    if slot.keep_alive_s < 0:
        return None
    return datetime.now(UTC) + timedelta(seconds=slot.keep_alive_s)
