"""A budget for two models of a hand-driven loader."""

from pagemill.memory_need import MemoryNeed
from pagemill.store.references import ModelReference, Reference
from support.hand_driven_loader import Loader


class Memory:
    """Of 25, the server itself takes 5, and each model 10, but "large" and "small"."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self.own = 5
        self.untouched = 0  # of what models may take

    async def estimate(self, reference: Reference) -> tuple[ModelReference, MemoryNeed]:
        assert isinstance(reference, ModelReference)
        return reference, MemoryNeed({"large": 96, "small": 2}.get(reference.name, 10) - 4, 3, 1)

    def budget(self, device: str) -> int:
        return 25

    def resident(self, device: str) -> int:
        return self.own + 10 * self._loader.num_open - self.untouched
