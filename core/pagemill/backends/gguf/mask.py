"""Masks of allowed tokens, applied to logits. Owns no state; imports numpy, so import it only when a mask comes."""

import numpy as np
from numpy.typing import NDArray


def keep_only(row: NDArray[np.float32], allowed: bytes) -> None:
    """Make all tokens of a row of logits `[vocab_size]` impossible but those of the mask (`SequenceChunk.allowed`)."""
    bits = np.unpackbits(np.frombuffer(allowed, np.uint8), count=len(row), bitorder="little")
    row[bits == 0] = -np.inf
