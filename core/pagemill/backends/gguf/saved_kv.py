"""The KV of one slot as bytes, whatever the number of slots. Owns no state.

llama.cpp gives a slot's KV as (magic, sequence id), and then for each of the model's caches (layers with a sliding
window have a second): the number of streams, and for each stream the number of its cells and what they hold, where all
streams but the slot's are empty. It takes that only into as many streams again. So the empty ones are left out, and put
in again for the context at hand. Recurrent states know no streams.
"""

from collections.abc import Mapping

from pagemill.backends.gguf.context import STATE_HEAD_BYTES, Context
from pagemill.backends.gguf.kv_size import padded
from pagemill.backends.gguf.model import Model
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.errors import BackendError

COUNT_BYTES = 4  # of a number of streams, or of cells
SIZE_BYTES = 8  # ours, before all: the bytes of the last cache


def kv_identity(model: Model, options: GGUFOptions, max_model_len: int) -> Mapping[str, str | int]:
    """See `Backend.kv_identity`. Flash attention decides how values lie in memory."""
    trained = model.text(f"{model.architecture}.rope.scaling.original_context_length")
    factors = "none"
    if trained is not None:  # llama.cpp takes other factors in a context that is longer than that of the training
        factors = "long" if padded(max_model_len) > int(trained) else "short"
    return {
        "llama_cpp": model.library.c.llama_version().decode(),
        "architecture": model.architecture,
        "kv_cache_dtype": options.kv_type,
        "flash_attn": options.flash_attn,
        "rope_factors": factors,
    }


def save_kv(model: Model, context: Context, slot: int) -> memoryview:
    """A copy of all that the slot holds.

    Raises:
        BackendError: the model keeps both KV and recurrent states, or llama.cpp gives nothing.
    """
    if model.is_recurrent and not model.is_purely_recurrent:
        raise BackendError(f"a slot of {model.path} can't be saved: {model.architecture} keeps KV and recurrent states")
    state = context.slot_state(slot)
    head, caches = _parts(state, context.last_cache_bytes(slot))
    if not model.is_recurrent:
        before = slot if context.num_streams > 1 else 0
        after = context.num_streams - 1 - before
        caches = [cache[COUNT_BYTES * (1 + before) : len(cache) - COUNT_BYTES * after] for cache in caches]
    return memoryview(b"".join((len(caches[-1]).to_bytes(SIZE_BYTES, "little"), head, *caches)))


def load_kv(model: Model, context: Context, slot: int, data: memoryview) -> None:
    """Replace what the slot holds by what `save_kv` gave.

    Raises:
        BackendError: llama.cpp does not take it, with its reason.
    """
    last_bytes = int.from_bytes(data[:SIZE_BYTES], "little")
    if len(data) < SIZE_BYTES + STATE_HEAD_BYTES + last_bytes:
        raise BackendError(f"{len(data)} bytes are not a slot's KV")
    head, caches = _parts(data[SIZE_BYTES:], last_bytes)
    if not model.is_recurrent:
        streams = memoryview(context.num_streams.to_bytes(COUNT_BYTES, "little"))
        empty = memoryview(bytes((context.num_streams - 1) * COUNT_BYTES))
        caches = [part for cache in caches for part in (streams, cache, empty)]
    context.set_slot_state(slot, bytearray().join((head, *caches)))


def _parts(state: memoryview, last_bytes: int) -> tuple[memoryview, list[memoryview]]:
    """The head, and the one cache or both."""
    head, first, last = state[:STATE_HEAD_BYTES], state[STATE_HEAD_BYTES:-last_bytes], state[-last_bytes:]
    return head, [first, last] if first else [last]
