"""The memory that models may take together, and who goes to make room for one more. Owns no state; pure Python.

The pool asks; it knows what is loaded, and does what is decided here.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pagemill.errors import ModelTooLargeError
from pagemill.memory_need import MemoryNeed, shown
from pagemill.store.references import ModelReference, Reference


class ModelMemory(Protocol):
    """What the pool must be told to keep a budget."""

    async def estimate(self, reference: Reference) -> tuple[ModelReference, MemoryNeed]:
        """The model, fetched if it was elsewhere, and what it would take.

        Raises:
            ModelLoadError, ModelNotFoundError: its files are damaged, or not to be had.
        """
        ...

    def budget(self, device: str) -> int:
        """Bytes that this process may take of the device's memory."""
        ...

    def resident(self, device: str) -> int:
        """Bytes that it takes now."""
        ...


class Occupant(NamedTuple):
    """A loaded model, as far as making room is concerned."""

    size: int  # bytes
    idle: bool


def check_fits(name: str, need: MemoryNeed, budget: int, own: int) -> None:
    """`own` is what the process takes without any model.

    Raises:
        ModelTooLargeError: the model is too large even if it were alone; gives the numbers.
    """
    if need.total + own > budget:
        limits = f"the budget is {shown(budget)}, of which the server itself takes {shown(own)}"
        raise ModelTooLargeError(f"{name} needs {need} of memory; {limits}")


def choose_leavers(occupants: Sequence[Occupant], room: int) -> list[int]:
    """Indices of those that must go so that the others fit into `room` bytes; none if they do already. `occupants` come
    least recently used first, and go in that order: the idle ones first, of the others only as many as must.
    """
    excess = sum(occupant.size for occupant in occupants) - room
    leavers: list[int] = []
    for index in sorted(range(len(occupants)), key=lambda index: not occupants[index].idle):
        if excess <= 0:
            break
        leavers.append(index)
        excess -= occupants[index].size
    return leavers
