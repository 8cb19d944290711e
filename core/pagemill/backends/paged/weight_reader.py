"""From a checkpoint's tensors to parameters on the device. Owns the record of which tensors were read.

A parameter is allocated once, in its final dtype and place, and its rows are filled from the mapped file: a fused one
from several tensors. So the peak of memory is the parameters themselves. Knows no family.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.errors import ModelLoadError

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Part(NamedTuple):
    """A tensor of the checkpoint, and the shape that it must have."""

    name: str
    shape: tuple[int, ...]


class WeightReader:
    """Reads one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, *, dtype: torch.dtype, device: torch.device) -> None:
        self._checkpoint = checkpoint
        self._dtype = dtype
        self._device = device
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._checkpoint

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor, in the model's dtype."""
        return self.stack([Part(name, shape)], shape)

    def stack(self, parts: Sequence[Part], shape: tuple[int, ...]) -> Tensor:
        """The parts one below the other, as a tensor of `shape`.

        Raises:
            ModelLoadError: a tensor is missing, or has another shape or a dtype that is no plain number; it is named.
        """
        parameter = torch.empty(shape, dtype=self._dtype, device=self._device)
        flat = parameter.view(-1)
        end = 0
        for name, part_shape in parts:
            size = math.prod(part_shape)
            flat[end : end + size].view(part_shape).copy_(self._load(name, part_shape))
            self._checkpoint.release(name)
            end += size
        assert end == flat.numel()
        return parameter

    def unread(self) -> Iterable[str]:
        """The checkpoint's tensors that were not read."""
        return (name for name in self._checkpoint.names() if name not in self._read)

    def _load(self, name: str, shape: tuple[int, ...]) -> Tensor:
        self._checkpoint.expect(name, shape)
        tensor = self._checkpoint.load(name)
        if tensor.dtype not in DTYPES:
            file = self._checkpoint.file_of(name)
            raise ModelLoadError(f"the tensor {name} of {file} has the dtype {tensor.dtype}, which is not supported")
        self._read.add(name)
        return tensor
