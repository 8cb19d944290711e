"""The memory budget of a server with several models: what it is, what a model would take of it, what is taken now.

Implements the pool's `ModelMemory`. Owns the budget of the CPU's memory; blocks only on threads.
"""

import asyncio

from pagemill.backend_choice import estimate_memory
from pagemill.machine import available_memory_bytes, resident_bytes
from pagemill.memory_need import MemoryNeed
from pagemill.settings import Settings
from pagemill.store.availability import make_available
from pagemill.store.references import ModelReference, Reference

SHARE_OF_FREE_MEMORY = 0.9


class BudgetedMemory:
    """Made at the start, when nothing is loaded: the default budget is a share of what is free then."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        free = available_memory_bytes() + resident_bytes()
        self._cpu_bytes = settings.memory_budget_bytes or int(SHARE_OF_FREE_MEMORY * free)

    async def estimate(self, reference: Reference) -> tuple[ModelReference, MemoryNeed]:
        try:
            return await asyncio.to_thread(self._estimate, reference)
        except asyncio.CancelledError:
            if not isinstance(reference, ModelReference):
                reference.progress.stop()
            raise

    def _estimate(self, reference: Reference) -> tuple[ModelReference, MemoryNeed]:
        here = make_available(reference, self._settings)
        return here, estimate_memory(here, self._settings, self.budget)

    def budget(self, device: str) -> int:
        if device == "cpu":
            return self._cpu_bytes
        from pagemill.backends.paged.gpu_memory import device_bytes

        return int(device_bytes().total * self._settings.gpu_memory_utilization)

    def resident(self, device: str) -> int:
        """On a GPU what all processes take: its memory is not shared out otherwise."""
        if device == "cpu":
            return resident_bytes()
        from pagemill.backends.paged.gpu_memory import device_bytes

        return device_bytes().taken
