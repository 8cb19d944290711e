"""How much memory keys and values take. Owns no state; may not import llama_cpp.

Sizes are computed from the file's metadata, before anything is allocated. Where an architecture shares or shrinks some
layers' KV in its own way the result is too large, never too small.
"""

from typing import NamedTuple

from pagemill.backends.gguf.model import Model

BYTES_PER_VALUE = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
UNBOUNDED = 2**31 - 1  # a recurrent state takes the same for any number of tokens
CELL_PADDING = 256  # llama.cpp rounds a sequence's room up to this many tokens
STATE_BYTES_PER_VALUE = 4  # recurrent states are kept in f32


class KVSize(NamedTuple):
    """Bytes of KV for each token of a sequence, and of recurrent state for each sequence."""

    bytes_per_token: int
    bytes_per_sequence: int

    def of_slot(self, num_tokens: int) -> int:
        """Bytes that one slot for sequences of `num_tokens` takes."""
        return padded(num_tokens) * self.bytes_per_token + self.bytes_per_sequence

    def longest(self, slot_bytes: int) -> int:
        """The longest sequence, in tokens, whose slot takes at most so many bytes; 0 if there is none."""
        room = slot_bytes - self.bytes_per_sequence
        if room < 0:
            return 0
        if self.bytes_per_token == 0:
            return UNBOUNDED
        return room // self.bytes_per_token // CELL_PADDING * CELL_PADDING


def padded(num_tokens: int) -> int:
    """Round up as llama.cpp does."""
    return -(-num_tokens // CELL_PADDING) * CELL_PADDING


def kv_size(model: Model, kv_type: str) -> KVSize:
    """Compute the sizes of a model's KV in a type ("f16", "q8_0", "q4_0")."""
    values = _Values(model)
    num_layers = values.number("block_count", 0)
    heads = values.per_layer("attention.head_count", num_layers, [0] * num_layers)
    kv_heads = values.per_layer("attention.head_count_kv", num_layers, heads)
    head_size = values.number("embedding_length", 0) // max([1, *heads])
    key_length = max(values.number("attention.key_length", head_size), values.number("attention.key_length_swa", 0))
    value_length = max(
        values.number("attention.value_length", head_size), values.number("attention.value_length_swa", 0)
    )
    if values.number("attention.key_length_mla", 0) > 0:
        value_length = 0  # multi-head latent attention: the values are part of the cached keys
    num_values = sum(kv_heads) * (key_length + value_length)
    if bool(model.library.c.llama_model_is_recurrent(model.handle)):
        num_values = 0  # every layer keeps a state
    state = _state_values(values) * num_layers if model.is_recurrent else 0
    return KVSize(int(num_values * BYTES_PER_VALUE[kv_type]), state * STATE_BYTES_PER_VALUE)


def _state_values(values: "_Values") -> int:
    """Values of one layer's recurrent state: Mamba's convolution and SSM state, or RWKV's shift and WKV state."""
    inner, state = values.number("ssm.inner_size", 0), values.number("ssm.state_size", 0)
    groups, kernel = values.number("ssm.group_count", 0), values.number("ssm.conv_kernel", 0)
    mamba = max(0, kernel - 1) * (inner + 2 * groups * state) + inner * state
    embedding, head = values.number("embedding_length", 0), values.number("wkv.head_size", 0)
    rwkv = embedding * (head + values.number("token_shift_count", 2)) if head else 0
    short_convolution = embedding * max(0, values.number("shortconv.l_cache", 0) - 1)
    return mamba + rwkv + short_convolution


class _Values:
    """The architecture's numbers in a model's metadata. Arrays make it read the file, scalars don't."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._prefix = model.architecture + "."

    def number(self, name: str, default: int) -> int:
        text = self._model.text(self._prefix + name)
        return int(text) if text is not None and text.isdigit() else default

    def per_layer(self, name: str, num_layers: int, default: list[int]) -> list[int]:
        text = self._model.text(self._prefix + name)
        if text is not None and text.isdigit():
            return [int(text)] * num_layers
        found = self._model.file_metadata.get(self._prefix + name)
        if isinstance(found, list) and all(isinstance(item, int) for item in found):
            return found[:num_layers]
        return default
