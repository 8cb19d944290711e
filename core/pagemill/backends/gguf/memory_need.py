"""What a GGUF model will take of memory, by its file's header and the options alone. Owns no state.

Rather too much than too little; `python -m load_tests.memory_need` measures it. Nothing here loads llama.cpp.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pagemill.backends.gguf.capacity import choose_capacity, kv_limit
from pagemill.backends.gguf.context import MAX_UBATCH, MIN_OUTPUTS
from pagemill.backends.gguf.kv_size import HeaderNumbers, KVSize, kv_size_by, padded
from pagemill.backends.gguf.metadata import LongArray, TensorExtent, read_header
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.backends.gguf.repacking import copied_bytes
from pagemill.memory_need import MemoryNeed

RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})  # no layer keeps keys and values
BYTES_PER_VOCABULARY_ENTRY = 300  # llama.cpp's tables of a token, and of the merge that makes it
FLOAT = 4
FIXED_BYTES = 8 * 2**20  # graphs, threads and samplers


def estimate_gguf(files: Sequence[Path], options: GGUFOptions, budget_bytes: int) -> MemoryNeed:
    """Of the model in these files, the first of them first. `budget_bytes` is the memory that models may take together:
    what the options leave open of the KV cache is an eighth of it, at most half of what the weights leave.

    Raises:
        ModelLoadError: a file is missing or damaged; or the options ask for more KV than there is.
    """
    headers = [read_header(file) for file in files]
    values = headers[0].values
    numbers = HeaderNumbers(values)
    weights = _weights(values, [tensor for header in headers for tensor in header.tensors], options)
    size = kv_size_by(numbers, options.kv_type, purely_recurrent=values.get("general.architecture") in RECURRENT)
    if _embeds(values, options):
        return _of_embedder(numbers, options, weights, size, _vocab_size(values))
    if options.kv_cache_memory_bytes is None:
        least = size.of_slot(options.max_model_len or 1) * (options.max_num_seqs or 1)
        options = options._replace(kv_cache_memory_bytes=max(least, kv_limit(budget_bytes, weights)))
    capacity = choose_capacity(size, numbers.number("context_length", 0), options, budget_bytes)
    num_tokens = min(max(options.max_num_batched_tokens, MIN_OUTPUTS), MAX_UBATCH)
    compute = _activations(numbers, options, num_tokens, padded(capacity.max_model_len))
    logits = max(capacity.max_num_seqs, MIN_OUTPUTS) * _vocab_size(values) * FLOAT
    kv = size.of_slot(capacity.max_model_len) * capacity.max_num_seqs
    return MemoryNeed(weights, kv, compute + logits)


def _of_embedder(
    numbers: HeaderNumbers, options: GGUFOptions, weights: int, size: KVSize, vocab_size: int
) -> MemoryNeed:
    """Of a model whose steps hold whole inputs: a decoder keeps the keys and values of one step. llama.cpp has room for
    the logits of all its tokens.
    """
    length = options.max_model_len or options.chosen_model_len(numbers.number("context_length", 0))
    num_tokens = max(options.max_num_batched_tokens, length)
    kv = size.bytes_per_token * padded(num_tokens) if numbers.flag("attention.causal", True) else 0
    logits = num_tokens * vocab_size * FLOAT
    return MemoryNeed(weights, kv, _activations(numbers, options, num_tokens, num_tokens) + logits)


def _embeds(values: Mapping[str, object], options: GGUFOptions) -> bool:
    """As `pooling_of` tells it of a loaded model."""
    numbers = HeaderNumbers(values)
    says_so = numbers.number("pooling_type", 0) != 0 or not numbers.flag("attention.causal", True)
    return options.runner == "pooling" or (options.runner == "auto" and says_so)


def _weights(values: Mapping[str, object], tensors: Sequence[TensorExtent], options: GGUFOptions) -> int:
    """With the vocabulary, and the second layout of those that are laid out anew."""
    total = sum(tensor.num_bytes for tensor in tensors) + copied_bytes(tensors, mapped=options.mmap)
    return total + _vocab_size(values) * BYTES_PER_VOCABULARY_ENTRY


def _activations(numbers: HeaderNumbers, options: GGUFOptions, num_tokens: int, context: int) -> int:
    """What one pass over so many tokens holds at once; without flash attention a score of each token and position."""
    num_layers = numbers.number("block_count", 0)
    heads = max([1, *numbers.per_layer("attention.head_count", num_layers, [])])
    hidden = numbers.number("embedding_length", 0)
    queries = heads * numbers.number("attention.key_length", hidden // heads)
    scores = heads * context if options.flash_attn == "off" else 0
    widest = _values_in_mlp(numbers, num_layers, hidden)
    return num_tokens * (3 * hidden + 2 * queries + widest + scores) * FLOAT + FIXED_BYTES


def _values_in_mlp(numbers: HeaderNumbers, num_layers: int, hidden: int) -> int:
    """Of a token, at once: gate, up, and half as much again for the product's input in two bytes. A token's experts are
    computed together; then either their gates are in the way, or their outputs.
    """
    dense = max([0, *numbers.per_layer("feed_forward_length", num_layers, [])])
    num_experts = numbers.number("expert_used_count", 0)
    inner = num_experts * numbers.number("expert_feed_forward_length", dense)
    experts = max(3 * inner, inner + 2 * num_experts * hidden) + inner // 2
    return max(5 * dense // 2, experts)


def _vocab_size(values: Mapping[str, object]) -> int:
    tokens = values.get("tokenizer.ggml.tokens")
    if isinstance(tokens, LongArray):
        return tokens.num_items
    return len(tokens) if isinstance(tokens, list) else 0
