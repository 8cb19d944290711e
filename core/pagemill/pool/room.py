"""Making room for a model under a memory budget: which models go, and how long a load waits for those in use.

A `Room` knows what the server takes without models; the pool owns it, and the load whose turn it is uses it, so that
nothing else is loaded or unloaded meanwhile. Of models that must go leases end, and later ones wait until after the
load: it waits for none who came after it. May not import a backend, HTTP or the dialects.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from pagemill.memory_need import MemoryNeed
from pagemill.pool.budget import ModelMemory, Occupant, check_fits, choose_leavers
from pagemill.pool.slot import ModelSlot


class LoadAbandonedError(Exception):
    """Everyone who waited for the load has left before there was room."""


class Room:
    """See the module. `evict` closes the model of a slot that nobody holds."""

    def __init__(
        self,
        memory: ModelMemory,
        max_loaded_models: int | None,
        slots: Callable[[], Iterable[ModelSlot]],
        evict: Callable[[ModelSlot], Awaitable[None]],
    ) -> None:
        self._memory = memory
        self._max_loaded_models = max_loaded_models
        self._slots = slots
        self._evict = evict
        # Bytes that the server itself takes on each device: when last no model was loaded, and at most since then.
        self._bare: dict[str, int] = {}
        self._own: dict[str, int] = {}

    async def make(self, slot: ModelSlot, need: MemoryNeed) -> None:
        """Returns when the slot's model has room.

        Raises:
            ModelTooLargeError: it can't have.
            LoadAbandonedError: see there.
        """
        shut: list[ModelSlot] = []
        try:
            while leavers := self._leavers(slot, need):
                for leaver in leavers:
                    if leaver not in shut:
                        leaver.shut()
                        shut.append(leaver)
                idle = [leaver for leaver in leavers if leaver.num_leases == 0]
                if not idle:
                    await self._until_one_is_idle(slot)
                for leaver in idle:
                    await self._evict(leaver)
        finally:
            for leaver in shut:
                leaver.open()

    def _leavers(self, slot: ModelSlot, need: MemoryNeed) -> list[ModelSlot]:
        """Who must go, those first who can go at once, each time by what is so now."""
        loaded = sorted((other for other in self._slots() if other.model), key=lambda other: other.last_use)
        here = [other for other in loaded if other.need is not None and other.need.device == need.device]
        counted = sum(other.num_bytes for other in here)
        beyond = self._memory.resident(need.device) - counted
        if not here:
            self._bare[need.device] = self._own[need.device] = beyond
        own = self._own[need.device] = max(self._own.get(need.device, 0), beyond)
        budget = self._memory.budget(need.device)
        check_fits(slot.reference.name, need, budget, self._bare.get(need.device, 0))
        occupants = [Occupant(other.num_bytes, other.num_leases == 0) for other in here]
        room = budget - own - need.total
        leavers = [here[index] for index in choose_leavers(occupants, room)]
        return leavers + self._beyond_the_number([other for other in loaded if other not in leavers])

    def _beyond_the_number(self, stayers: list[ModelSlot]) -> list[ModelSlot]:
        if self._max_loaded_models is None:
            return []
        too_many = len(stayers) + 1 - self._max_loaded_models
        return sorted(stayers, key=lambda other: other.num_leases > 0)[: max(0, too_many)]

    async def _until_one_is_idle(self, slot: ModelSlot) -> None:
        """Of the loaded models. Whether it is one that must go is for the caller to see: it can have new leases."""
        events = [other.idle for other in self._slots() if other.model is not None]
        waits = [asyncio.create_task(event.wait()) for event in (slot.idle, *events)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if slot.num_leases == 0:
            raise LoadAbandonedError
