"""What a model folder will take of memory, by its config.json, the headers of its weights and the options.

Rather too much than too little; `python -m load_tests.memory_need` measures it. What importing torch takes is not in
it: that is the process's, and stays. Owns no state.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pagemill.backends.paged.architectures import language_model_fields
from pagemill.backends.paged.architectures.families import FAMILIES
from pagemill.backends.paged.capacity import DEFAULT_CPU_KV_BYTES, step_limits
from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.backends.paged.device import choose_device, choose_dtype
from pagemill.backends.paged.encoder.config import ENCODERS
from pagemill.backends.paged.loading import makes_embeddings
from pagemill.backends.paged.options import PagedOptions
from pagemill.memory_need import MemoryNeed

MIB = 2**20
FLOAT = 4
MODULES_BYTES = 64 * MIB  # what the first model imports beside torch; tokenizer, allocator
TRANSFORMERS_BYTES = 160 * MIB  # importing transformers and a definition of its
ENCODER_SHARE = 1.75  # of a layer's tensors: torch allocates them anew, and what it freed does not always fit
LOGITS_COPIES = 3  # scores, what is sampled from, what is sorted
DEFAULT_EMBEDDING_TOKENS = 2048
DEFAULT_LENGTH = 512  # of an embedding model that names none


def estimate_paged(folder: Path, options: PagedOptions, budget: Callable[[str], int]) -> MemoryNeed:
    """`budget` tells the bytes of a device ("cpu", "cuda") that models may take together: what the options leave open
    of the KV cache is an eighth of them, at most half of what the weights leave.

    Raises:
        ModelLoadError: a file is missing or damaged; names it.
    """
    device = choose_device(options.device)
    with Checkpoint.open(folder) as checkpoint:
        config = checkpoint.config
        dtype = choose_dtype(options.dtype, checkpoint.dtype, device)
        num_parameters = checkpoint.num_parameters
    sizes = _Sizes(language_model_fields(config))
    weights = num_parameters * dtype.itemsize
    is_ours = config["model_type"] in FAMILIES
    fixed = MODULES_BYTES if is_ours or config["model_type"] in ENCODERS else MODULES_BYTES + TRANSFORMERS_BYTES
    if makes_embeddings(folder, options):
        num_tokens = max(options.max_num_batched_tokens or DEFAULT_EMBEDDING_TOKENS, sizes.length)
        kv = num_tokens * sizes.kv_values * dtype.itemsize if is_ours else 0
        share = 1 if is_ours or device.type != "cpu" else ENCODER_SHARE
        return MemoryNeed(weights, kv, int(share * sizes.activations(num_tokens, dtype)) + fixed, device.type)
    if sizes.is_tied and device.type == "cpu":
        weights += sizes.vocab * sizes.hidden * dtype.itemsize  # for the lookup as it is, for the head packed
    max_num_seqs, num_tokens = step_limits(options, device.type)
    logits = max_num_seqs * sizes.vocab * FLOAT * LOGITS_COPIES
    kv = options.kv_cache_memory_bytes or _kv_limit(budget(device.type), weights)
    return MemoryNeed(weights, kv, sizes.activations(num_tokens, dtype) + logits + fixed, device.type)


def _kv_limit(budget_bytes: int, weight_bytes: int) -> int:
    return max(1, min(DEFAULT_CPU_KV_BYTES, budget_bytes // 8, (budget_bytes - weight_bytes) // 2))


class _Sizes:
    """What config.json says of how large the model's parts are; 0 where it says nothing that we know."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.vocab = self._number("vocab_size")
        self.hidden = self._number("hidden_size", "n_embd", "dim")
        self.length = self._number("max_position_embeddings", default=DEFAULT_LENGTH)
        self.is_tied = config.get("tie_word_embeddings", True) is not False
        heads = max(1, self._number("num_attention_heads", "n_head"))  # a load refuses none by name
        head_dim = self._number("head_dim", default=self.hidden // heads)
        self.kv_values = (
            2
            * self._number("num_hidden_layers", "n_layer")
            * self._number("num_key_value_heads", default=heads)
            * head_dim
        )
        self._queries = heads * head_dim
        self._widest = self._number("intermediate_size", "n_inner", default=4 * self.hidden)

    def activations(self, num_tokens: int, dtype: torch.dtype) -> int:
        """Bytes that one pass over so many tokens holds at once."""
        return num_tokens * (3 * self.hidden + 2 * self._queries + 3 * self._widest) * dtype.itemsize

    def _number(self, *names: str, default: int = 0) -> int:
        found = (self._config.get(name) for name in names)
        return next((value for value in found if isinstance(value, int)), default)
