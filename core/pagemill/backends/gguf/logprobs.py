"""Log-probabilities of the model's raw distribution, before any sampler. Owns no state; pure numpy."""

import numpy as np
from numpy.typing import NDArray

from pagemill.generation import TokenLogprob, TokenLogprobs


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural-log probabilities of one row `[vocab_size]`. A new array: the row may be changed afterwards."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max()
    shifted -= np.log(np.exp(shifted).sum())
    return shifted


def token_logprobs(logprobs: NDArray[np.float64], token_id: int, num_top: int) -> TokenLogprobs:
    """The token's logprob and the `num_top` highest, descending; equal ones in order of token id."""
    return TokenLogprobs(token_id, float(logprobs[token_id]), _top(logprobs, num_top))


def _top(logprobs: NDArray[np.float64], count: int) -> tuple[TokenLogprob, ...]:
    count = min(count, len(logprobs))
    if count == 0:
        return ()
    least = np.partition(logprobs, len(logprobs) - count)[len(logprobs) - count]
    candidates = np.flatnonzero(logprobs >= least)  # more than `count` if several are equal to the least
    order = np.lexsort((candidates, -logprobs[candidates]))[:count]
    return tuple(TokenLogprob(token_id, float(logprobs[token_id])) for token_id in candidates[order].tolist())
