"""The logits of one decode, in llama.cpp's memory.

Sampling in C reads them where they are. What works on them in Python does so through numpy, and numpy is imported when
the first such work comes: its import is a sixth of a cold start.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Logits:
    """A row for each output of the decode. `pointer` is a `float *`, None if there are no rows."""

    def __init__(self, pointer: Any, num_rows: int, vocab_size: int) -> None:
        self._pointer = pointer
        self._shape = (num_rows, vocab_size)

    @cached_property
    def rows(self) -> "NDArray[np.float32]":
        """`[num_rows, vocab_size]`, not a copy: writing to it changes what is sampled from."""
        import numpy as np

        return (
            np.empty(self._shape, np.float32)
            if self._pointer is None
            else np.ctypeslib.as_array(self._pointer, shape=self._shape)
        )
