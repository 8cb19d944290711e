"""How many pages there are, and how many sequences of what length they serve. Owns no state; imports no torch.

What the settings say holds, or is refused with the numbers; what they leave open is chosen here.
"""

from dataclasses import dataclass
from logging import getLogger

from pagemill.backends.paged.options import PagedOptions
from pagemill.errors import ModelLoadError, SettingsError

logger = getLogger(__name__)

DEFAULT_CPU_KV_BYTES = 4 * 2**30
DEFAULT_MAX_NUM_SEQS = {"cpu": 64, "cuda": 256}
DEFAULT_MAX_NUM_BATCHED_TOKENS = {"cpu": 512, "cuda": 2048}
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Capacity:
    """The limits of one backend."""

    num_blocks: int
    block_size: int
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int

    @property
    def max_blocks(self) -> int:
        """Pages of the longest sequence."""
        return -(-self.max_model_len // self.block_size)


def step_limits(options: PagedOptions, device_type: str) -> tuple[int, int]:
    """(max_num_seqs, max_num_batched_tokens): as set, else by the kind of device.

    Raises:
        SettingsError: both are set, and a step has no room for a token of each sequence.
    """
    num_seqs, num_tokens = options.max_num_seqs, options.max_num_batched_tokens
    if num_seqs is not None and num_tokens is not None and num_tokens < num_seqs:
        raise SettingsError(f"max_num_batched_tokens ({num_tokens}) must be at least max_num_seqs ({num_seqs})")
    if num_tokens is None:
        num_tokens = max(num_seqs or 0, DEFAULT_MAX_NUM_BATCHED_TOKENS[device_type])
    return num_seqs or min(DEFAULT_MAX_NUM_SEQS[device_type], num_tokens), num_tokens


def cpu_kv_bytes(options: PagedOptions, available_bytes: int) -> int:
    """Memory for pages on the CPU: as set, else 4 GiB or half of what is free.

    Raises:
        ModelLoadError: more is set than there is.
    """
    wanted = options.kv_cache_memory_bytes
    if wanted is None:
        return min(DEFAULT_CPU_KV_BYTES, available_bytes // 2)
    if wanted > available_bytes:
        raise ModelLoadError(
            f"kv_cache_memory_bytes is {wanted / MIB:.0f} MiB, but only {available_bytes / MIB:.0f} MiB are free"
        )
    return wanted


def choose_capacity(
    *, block_bytes: int, kv_bytes: int, context_length: int, options: PagedOptions, device_type: str
) -> Capacity:
    """As many pages of `block_bytes` as `kv_bytes` hold. `context_length` is what the model was made for.

    Raises:
        ModelLoadError: not a single page fits, or not one sequence of the `max_model_len` that was asked for.
    """
    num_blocks = kv_bytes // block_bytes
    room = num_blocks * options.block_size
    wanted = options.max_model_len or context_length
    if num_blocks < 1 or (options.max_model_len is not None and room < wanted):
        needed = -(-wanted // options.block_size) * block_bytes
        raise ModelLoadError(
            f"a sequence of {wanted} tokens needs {needed / MIB:.1f} MiB of KV cache, but there is room for "
            f"{max(0, kv_bytes) / MIB:.1f} MiB ({max(0, room)} tokens): lower max_model_len, or give more memory "
            "(kv_cache_memory_bytes, gpu_memory_utilization)"
        )
    if wanted > context_length:
        logger.warning("max_model_len %d is beyond the %d tokens the model was made for", wanted, context_length)
    if room < wanted:
        logger.warning("max_model_len is %d, not the model's %d: the KV cache holds no more", room, wanted)
    num_seqs, num_tokens = step_limits(options, device_type)
    logger.info("KV cache: %d pages of %d tokens, %.0f MiB", num_blocks, options.block_size, kv_bytes / MIB)
    return Capacity(num_blocks, options.block_size, min(wanted, room), num_seqs, num_tokens)
