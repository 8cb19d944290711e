"""What a model takes of a device's memory. Owns no state; may import nothing of Pagemill."""

from typing import NamedTuple

MIB, GIB = 2**20, 2**30


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
        parts = f"weights {shown(self.weights)}, KV cache {shown(self.kv)}, computing {shown(self.compute)}"
        return f"{shown(self.total)} ({parts})"


def shown(num_bytes: int) -> str:
    """A size for people, as "1.25 GiB" or "640 MiB"."""
    return f"{num_bytes / GIB:.2f} GiB" if num_bytes >= GIB else f"{num_bytes / MIB:.0f} MiB"
