"""Choosing one sequence's next token from its row of logits.

Order: logit bias, `min_tokens`' ban on stopping, penalties; then, if not greedy, llama.cpp's own chain in its usual
order: top-k, typical, top-p, min-p, temperature, and a draw from what is left. The first three change the row in place
(they touch few tokens), so greedy needs no list of candidates: numpy finds the largest of 152k logits in 10 us, where
building the list takes 250 us.

A `Sampler` owns its chain of C samplers, and lives as long as its sequence, across preemptions.
"""

from collections.abc import Set as AbstractSet
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagemill.backends.gguf.penalties import Penalties
from pagemill.engine.step import SequenceStart
from pagemill.generation import SamplingParams

RANDOM_SEED = 0xFFFFFFFF  # LLAMA_DEFAULT_SEED: llama.cpp takes a random one
SEED_MULTIPLIER = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio (Knuth, TAOCP 6.4)
MIN_KEEP = 1


class Sampler:
    """The sampling state of one sequence."""

    def __init__(self, c: ModuleType, start: SequenceStart, eos_token_ids: AbstractSet[int]) -> None:
        sampling = start.sampling
        self._c = c
        self._bias_ids = np.array([token_id for token_id, _ in sampling.logit_bias], np.int64)
        self._biases = np.array([bias for _, bias in sampling.logit_bias], np.float32)
        self._num_banned = sampling.min_tokens
        stops = set(sampling.stop_token_ids) | (set() if sampling.ignore_eos else set(eos_token_ids))
        self._stop_ids = np.array(sorted(stops), np.int64)
        self._penalties = Penalties(sampling, start.prompt_token_ids) if Penalties.wanted(sampling) else None
        self._chain: Any = None if sampling.greedy else _make_chain(c, sampling)

    def sample(self, context: int, row: NDArray[np.float32], batch_index: int) -> int:
        """The next token. Changes `row` `[vocab_size]`, the logits of the batch's token `batch_index`, in place."""
        if len(self._bias_ids):
            np.add.at(row, self._bias_ids, self._biases)
        if self._num_banned > 0:
            self._num_banned -= 1
            row[self._stop_ids] = -np.inf
        if self._penalties is not None:
            self._penalties.apply(row)
        if self._chain is None:
            token_id = int(row.argmax())
        else:
            token_id = int(self._c.llama_sampler_sample(self._chain, context, batch_index))
        if self._penalties is not None:
            self._penalties.accept(token_id)
        return token_id

    def close(self) -> None:
        """Free the chain; idempotent."""
        if self._chain is not None:
            self._c.llama_sampler_free(self._chain)
            self._chain = None


def _make_chain(c: ModuleType, sampling: SamplingParams) -> Any:
    """The C samplers of a request that is not greedy. The chain owns what is added to it."""
    params = c.llama_sampler_chain_default_params()
    params.no_perf = True
    chain = c.llama_sampler_chain_init(params)
    if sampling.top_k > 0:
        c.llama_sampler_chain_add(chain, c.llama_sampler_init_top_k(min(sampling.top_k, 2**31 - 1)))
    if sampling.typical_p < 1.0:
        c.llama_sampler_chain_add(chain, c.llama_sampler_init_typical(sampling.typical_p, MIN_KEEP))
    if sampling.top_p < 1.0:
        c.llama_sampler_chain_add(chain, c.llama_sampler_init_top_p(sampling.top_p, MIN_KEEP))
    if sampling.min_p > 0.0:
        c.llama_sampler_chain_add(chain, c.llama_sampler_init_min_p(sampling.min_p, MIN_KEEP))
    if sampling.temperature != 1.0:
        c.llama_sampler_chain_add(chain, c.llama_sampler_init_temp(sampling.temperature))
    c.llama_sampler_chain_add(chain, c.llama_sampler_init_dist(fold_seed(sampling.seed)))
    return chain


def fold_seed(seed: int | None) -> int:
    """A 64-bit seed in the 32 bits that llama.cpp takes (multiplicative hashing: all of the 64 count)."""
    if seed is None:
        return RANDOM_SEED
    folded = (seed * SEED_MULTIPLIER) % 2**64 >> 32
    return folded if folded != RANDOM_SEED else RANDOM_SEED - 1
