"""How many sequences of what length a context is made for. Owns no state; may not import llama_cpp.

What the settings say holds, or is refused with the numbers. What they leave open is chosen so that a start is quick and
the machine stays usable: llama.cpp clears all KV memory when it makes a context, so what is reserved costs time and
resident memory even if it is never used.
"""

from logging import getLogger
from typing import NamedTuple

from pagemill.backends.gguf.kv_size import KVSize
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.errors import ModelLoadError

logger = getLogger(__name__)

DEFAULT_MAX_NUM_SEQS = 16
DEFAULT_KV_BYTES = 4 * 2**30
MIB = 2**20


class Capacity(NamedTuple):
    """`max_num_seqs` slots of `max_model_len` tokens each."""

    max_num_seqs: int
    max_model_len: int


def choose_capacity(size: KVSize, context_length: int, options: GGUFOptions, free_bytes: int) -> Capacity:
    """Choose what the options leave open. `free_bytes` is the memory that could be taken; half of it is the limit,
    unless `options.kv_cache_memory_bytes` sets one. `context_length` is what the model was trained for (0: unknown).

    Raises:
        ModelLoadError: what the options ask for, or even the least, doesn't fit; gives the numbers.
    """
    limit = options.kv_cache_memory_bytes or free_bytes // 2
    length = _wanted_length(context_length, options)
    num_seqs = options.max_num_seqs
    if num_seqs is None:
        budget = options.kv_cache_memory_bytes or min(limit, DEFAULT_KV_BYTES)
        num_seqs = max(1, min(DEFAULT_MAX_NUM_SEQS, budget // size.of_slot(length)))
    longest = size.longest(limit // num_seqs)
    if longest < 1 or (options.max_model_len is not None and longest < length):
        raise _no_room(size, Capacity(num_seqs, options.max_model_len or 1), limit, longest)
    return Capacity(num_seqs, min(length, longest))


def _wanted_length(context_length: int, options: GGUFOptions) -> int:
    wanted = options.max_model_len
    if wanted is None:
        return options.chosen_model_len(context_length)
    if 0 < context_length < wanted:
        logger.warning("max_model_len %d is beyond the %d tokens the model was trained for", wanted, context_length)
    return wanted


def kv_limit(budget_bytes: int, weight_bytes: int) -> int:
    """The most memory for KV, left to choose, of a model that shares a budget with others."""
    return max(1, min(DEFAULT_KV_BYTES, budget_bytes // 8, (budget_bytes - weight_bytes) // 2))


def _no_room(size: KVSize, asked: Capacity, limit: int, longest: int) -> ModelLoadError:
    needed = size.of_slot(asked.max_model_len) * asked.max_num_seqs
    return ModelLoadError(
        f"max_num_seqs {asked.max_num_seqs} with max_model_len {asked.max_model_len} needs {needed / MIB:.0f} MiB of "
        f"KV cache, and {limit / MIB:.0f} MiB may be used, room for {max(0, longest)} tokens each. Lower one of "
        "them, choose a smaller kv_cache_dtype, or raise kv_cache_memory_bytes"
    )
