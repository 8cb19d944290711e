"""The memory that models may take together, and who goes to make room for one more. Owns no state; pure Python.

The pool asks; it knows what is loaded, and does what is decided here.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from pagemill.errors import ModelTooLargeError
from pagemill.store.references import Reference

GIB = 2**30


class MemoryNeed(NamedTuple):
    """What a model takes, in bytes, estimated from its files before it is loaded."""

    weights: int
    kv: int
    compute: int  # buffers of the largest step

    @property
    def total(self) -> int:
        return sum(self)

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in zip(self._fields, self, strict=True))
        return f"{self.total / GIB:.2f} GiB ({parts})"


class MemoryBudget(NamedTuple):
    """The bytes that all loaded models may take together. `estimate` tells what one would take, before it is loaded."""

    num_bytes: int
    estimate: Callable[[Reference], Awaitable[MemoryNeed]]


class Occupant(NamedTuple):
    """A loaded model, as far as making room is concerned."""

    size: int  # bytes
    idle: bool


def check_fits(name: str, need: MemoryNeed, budget: int) -> None:
    """
    Raises:
        ModelTooLargeError: the model is too large even if it were alone; gives the numbers.
    """
    if need.total > budget:
        raise ModelTooLargeError(f"{name} needs {need} of memory, and the budget is {budget / GIB:.2f} GiB")


def choose_leavers(occupants: Sequence[Occupant], need: int, budget: int) -> list[int]:
    """Indices of those that must go so that `need` bytes fit; none if they fit already. `occupants` come least recently
    used first, and go in that order: the idle ones first, of the others only as many as must.
    """
    missing = sum(occupant.size for occupant in occupants) + need - budget
    leavers: list[int] = []
    for index in sorted(range(len(occupants)), key=lambda index: not occupants[index].idle):
        if missing <= 0:
            break
        leavers.append(index)
        missing -= occupants[index].size
    return leavers
