"""What a request asks to be done to its logits before a token is chosen: bias, allowed tokens, `min_tokens`, penalties.

They touch few tokens, so numpy changes the row in place faster than llama.cpp's samplers do. Imported only for requests
that ask for any of it. `Adjustments` owns one sequence's state.
"""

from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

from pagemill.backends.gguf.penalties import Penalties
from pagemill.engine.step import SequenceStart


class Adjustments:
    """Those of one sequence."""

    def __init__(self, start: SequenceStart, eos_token_ids: AbstractSet[int]) -> None:
        sampling = start.sampling
        self._bias_ids = np.array([token_id for token_id, _ in sampling.logit_bias], np.int64)
        self._biases = np.array([bias for _, bias in sampling.logit_bias], np.float32)
        allowed = sampling.allowed_token_ids
        self._allowed_ids = None if allowed is None else np.array(allowed, np.int64)
        self._num_banned = sampling.min_tokens
        self._stop_ids = np.array(sorted(sampling.end_token_ids(eos_token_ids)), np.int64)
        self._penalties = Penalties(sampling, start.prompt_token_ids) if sampling.has_penalties else None

    def apply(self, row: NDArray[np.float32]) -> None:
        """Change one row of logits `[vocab_size]` in place, for the sequence's next token."""
        if len(self._bias_ids):
            np.add.at(row, self._bias_ids, self._biases)
        if self._allowed_ids is not None:
            allowed = row[self._allowed_ids]
            row.fill(-np.inf)
            row[self._allowed_ids] = allowed
        if self._num_banned > 0:
            self._num_banned -= 1
            row[self._stop_ids] = -np.inf
        if self._penalties is not None:
            self._penalties.apply(row)

    def accept(self, token_id: int) -> None:
        """Take note of the token that was chosen."""
        if self._penalties is not None:
            self._penalties.accept(token_id)
