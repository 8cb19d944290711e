"""What a model takes of a device's memory. Owns no state; may import nothing of Pagemill."""

from typing import NamedTuple

GIB = 2**30


class MemoryNeed(NamedTuple):
    """What a model takes, in bytes, estimated from its files before it is loaded."""

    weights: int
    kv: int
    compute: int  # buffers of the largest step
    device: str = "cpu"  # whose memory it is: "cpu" or "cuda"

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.compute

    def __str__(self) -> str:
        return (
            f"{self.total / GIB:.2f} GiB (weights {self.weights / GIB:.2f}, kv {self.kv / GIB:.2f}, "
            f"compute {self.compute / GIB:.2f})"
        )
