"""How much memory keys and values take. Owns no state; may not import llama_cpp.

Sizes are computed from the file's metadata, before anything is allocated. Where an architecture shares or shrinks some
layers' KV in its own way the result is too large, never too small.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

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
    """The sizes of a loaded model's KV in a type ("f16", "q8_0", "q4_0")."""
    return kv_size_by(_ModelNumbers(model), kv_type, purely_recurrent=model.is_purely_recurrent)


def kv_size_by(numbers: "Numbers", kv_type: str, *, purely_recurrent: bool) -> KVSize:
    """Compute the sizes of a model's KV by what its file says. `purely_recurrent`: every layer keeps a state."""
    num_layers = numbers.number("block_count", 0)
    heads = numbers.per_layer("attention.head_count", num_layers, [0] * num_layers)
    kv_heads = numbers.per_layer("attention.head_count_kv", num_layers, heads)
    head_size = numbers.number("embedding_length", 0) // max([1, *heads])
    key_length = max(numbers.number("attention.key_length", head_size), numbers.number("attention.key_length_swa", 0))
    value_length = max(
        numbers.number("attention.value_length", head_size), numbers.number("attention.value_length_swa", 0)
    )
    if numbers.number("attention.key_length_mla", 0) > 0:
        value_length = 0  # multi-head latent attention: the values are part of the cached keys
    num_values = 0 if purely_recurrent else sum(kv_heads) * (key_length + value_length)
    state = _state_values(numbers) * num_layers
    return KVSize(int(num_values * BYTES_PER_VALUE[kv_type]), state * STATE_BYTES_PER_VALUE)


def _state_values(numbers: "Numbers") -> int:
    """Values of one layer's recurrent state: Mamba's convolution and SSM state, or RWKV's shift and WKV state. None of
    them without such layers.
    """
    inner, state = numbers.number("ssm.inner_size", 0), numbers.number("ssm.state_size", 0)
    groups, kernel = numbers.number("ssm.group_count", 0), numbers.number("ssm.conv_kernel", 0)
    mamba = max(0, kernel - 1) * (inner + 2 * groups * state) + inner * state
    embedding, head = numbers.number("embedding_length", 0), numbers.number("wkv.head_size", 0)
    rwkv = embedding * (head + numbers.number("token_shift_count", 2)) if head else 0
    short_convolution = embedding * max(0, numbers.number("shortconv.l_cache", 0) - 1)
    return mamba + rwkv + short_convolution


class Numbers(Protocol):
    """The numbers that a file gives under its architecture's name."""

    def number(self, name: str, default: int) -> int: ...

    def per_layer(self, name: str, num_layers: int, default: list[int]) -> list[int]: ...


class _ModelNumbers:
    """Of a loaded model. Arrays make it read the file, scalars don't."""

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


class HeaderNumbers:
    """Of a file that is not loaded, by its header's values."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values
        self._prefix = f"{values.get('general.architecture')}."

    def number(self, name: str, default: int) -> int:
        found = self._values.get(self._prefix + name)
        return found if isinstance(found, int) else default

    def flag(self, name: str, default: bool) -> bool:
        found = self._values.get(self._prefix + name)
        return found if isinstance(found, bool) else default

    def per_layer(self, name: str, num_layers: int, default: list[int]) -> list[int]:
        found = self._values.get(self._prefix + name)
        if isinstance(found, int):
            return [found] * num_layers
        if isinstance(found, list) and all(isinstance(item, int) for item in found):
            return found[:num_layers]
        return default
