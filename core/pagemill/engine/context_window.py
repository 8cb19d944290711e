"""The context of a sequence that may outgrow it, and what is dropped from it each time (context shift).

When its tokens fill the window, the first ones stay, since models need their beginning (Xiao et al. 2023,
arXiv:2309.17453), and of the others the newer half. These are computed like a prompt, and the answer goes on. Ollama's
runners drop the same tokens, but move the KV of the others, which not every model and memory can.

Owns no state. May not import backends.
"""

from typing import NamedTuple

from pagemill.generation import ContextShift

MIN_KEEP = 1  # a prompt's first token, BOS in most models


class ContextWindow(NamedTuple):
    """See the module. Less than half of the window stays at its beginning, whatever a request wants: so about a quarter
    of it or more is dropped each time, and on average no token is computed more than four times.
    """

    length: int  # the most tokens at once, 2 or more
    num_kept: int  # of the first ones

    @classmethod
    def of(cls, shift: ContextShift, length: int) -> "ContextWindow":
        return cls(length, min(max(shift.num_keep, MIN_KEEP), (length - 1) // 2))

    @property
    def num_dropped(self) -> int:
        """How many tokens after those that are kept are dropped from a full window."""
        return max((self.length - self.num_kept) // 2, 1)
