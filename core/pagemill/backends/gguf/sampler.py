"""Choosing one sequence's next token from its row of logits.

First the request's adjustments (bias, masks, penalties), in Python; then llama.cpp's own chain in its usual
order: top-k, typical, top-p, min-p, temperature, and a draw from what is left. Greedy takes the largest logit: in C
while the vocabulary is small, else in numpy, which finds the largest of 152k in 10 us where C first makes a list of
candidates (250 us; 13 us at 8k). So plain requests to a small model never import numpy.

A `Sampler` owns its chain of C samplers, and lives as long as its sequence, across preemptions.
"""

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from pagemill.backends.gguf.logits import Logits
from pagemill.engine.step import SequenceStart
from pagemill.generation import SamplingParams

if TYPE_CHECKING:
    from types import ModuleType

    from pagemill.backends.gguf.adjustments import Adjustments

RANDOM_SEED = 0xFFFFFFFF  # LLAMA_DEFAULT_SEED: llama.cpp takes a random one
SEED_MULTIPLIER = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio (Knuth, TAOCP 6.4)
MIN_KEEP = 1
IMPOSSIBLE = 1e-30  # relative to the most likely token
MAX_CANDIDATES = 2**15  # the largest vocabulary of which C makes a list just to take its first


class Sampler:
    """The sampling state of one sequence."""

    def __init__(self, c: "ModuleType", start: SequenceStart, eos_token_ids: AbstractSet[int], vocab_size: int) -> None:
        sampling = start.sampling
        self._c = c
        self._adjustments = _make_adjustments(start, eos_token_ids)
        in_numpy = sampling.greedy and (self._adjustments is not None or vocab_size > MAX_CANDIDATES)
        self._chain: Any = None if in_numpy else _make_chain(c, sampling)

    def sample(self, context: int, logits: Logits, row: int, batch_index: int, allowed: bytes | None) -> int:
        """The next token, one of those allowed (`SequenceChunk.allowed`). Row `row`, the logits of the batch's token
        `batch_index`, is changed in place.
        """
        if self._adjustments is not None:
            self._adjustments.apply(logits.rows[row])
        if allowed is not None:
            from pagemill.backends.gguf.mask import keep_only

            keep_only(logits.rows[row], allowed)
        if self._chain is None:
            token_id = int(logits.rows[row].argmax())
        else:
            token_id = int(self._c.llama_sampler_sample(self._chain, context, batch_index))
        if self._adjustments is not None:
            self._adjustments.accept(token_id)
        return token_id

    def close(self) -> None:
        """Free the chain; idempotent."""
        if self._chain is not None:
            self._c.llama_sampler_free(self._chain)
            self._chain = None


def import_what_greedy_needs(vocab_size: int) -> None:
    """Else the first greedy request would wait for numpy's import."""
    if vocab_size > MAX_CANDIDATES:
        import numpy  # noqa: F401


def _make_adjustments(start: SequenceStart, eos_token_ids: AbstractSet[int]) -> "Adjustments | None":
    sampling = start.sampling
    masked = sampling.allowed_token_ids is not None or sampling.min_tokens > 0
    if not sampling.logit_bias and not masked and not sampling.has_penalties:
        return None
    from pagemill.backends.gguf.adjustments import Adjustments

    return Adjustments(start, eos_token_ids)


def _make_chain(c: "ModuleType", sampling: SamplingParams) -> Any:
    """The C samplers of a request. The chain owns what is added to it."""
    params = c.llama_sampler_chain_default_params()
    params.no_perf = True
    chain = c.llama_sampler_chain_init(params)
    if sampling.greedy:
        c.llama_sampler_chain_add(chain, c.llama_sampler_init_greedy())
        return chain
    if sampling.top_k > 0:
        c.llama_sampler_chain_add(chain, c.llama_sampler_init_top_k(min(sampling.top_k, 2**31 - 1)))
    if sampling.typical_p < 1.0:
        # llama.cpp takes 0 * log(0) for NaN, and then the order of all tokens is undefined.
        c.llama_sampler_chain_add(chain, c.llama_sampler_init_min_p(IMPOSSIBLE, MIN_KEEP))
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
