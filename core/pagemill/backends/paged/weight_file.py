"""What a checkpoint needs of one file of weights, whatever its format. Owns no state."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

# What weights may be stored as: what torch computes with everywhere, and what buffers and masks are made of.
DTYPES = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16}
    | {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool}
)


class TensorEntry(NamedTuple):
    """A tensor as its file declares it."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


class WeightFile(Protocol):
    """An open file. Whatever can be checked without reading the weights was checked when it was opened."""

    @property
    def path(self) -> Path: ...

    @property
    def entries(self) -> Mapping[str, TensorEntry]: ...

    def load(self, name: str) -> Tensor:
        """The tensor named in `entries`, mapped from the file, not copied. Writing to it does not change the file."""
        ...

    def release(self, name: str) -> None:
        """Let go of the pages of a tensor that has been copied; they are read again if it is used again."""
        ...

    def close(self) -> None:
        """Let go of the file. Tensors that were loaded stay valid."""
        ...
