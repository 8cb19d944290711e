"""config.json as a family reads it: typed, with the field's name and value in every error. Owns what has been read.

What was never read is told by `unread`, so that no field is passed over in silence.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from pagemill.errors import ModelLoadError

# Fields of training, generation, bookkeeping or one framework: they change no result of a forward pass.
INERT = frozenset(
    """
architectures attention_dropout attn_implementation auto_map bos_token_id cache_implementation
chunk_size_feed_forward classifier_dropout dtype embd_pdrop eos_token_id finetuning_task id2label initializer_range
label2id max_window_layers model_type output_attentions output_hidden_states output_router_logits pad_token_id
problem_type resid_pdrop return_dict router_aux_loss_coef router_jitter_noise sep_token_id sliding_window_size
tokenizer_class torch_dtype transformers_version unsloth_fixed unsloth_version use_cache use_return_dict
""".split()  # noqa: SIM905
)
FALSY = (None, False)


class Fields:
    """The fields of one config.json, or of a nested object in it, whose name `path` then is."""

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self._values = values
        self._path = path
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def unread(self) -> list[str]:
        """The fields that nobody asked for and that may matter."""
        return [
            self._path + name
            for name in self._values
            if name not in self._read and name not in INERT and not name.startswith("_")
        ]

    def refuse(self, name: str, reason: str) -> NoReturn:
        """Raise the error that names the field and its value."""
        value = self._values.get(name)
        raise ModelLoadError(f"config.json: {self._path}{name}={value!r} {reason}")

    def raw(self, name: str) -> Any:
        """The value as it is; None if absent."""
        self._read.add(name)
        return self._values.get(name)

    def nested(self, name: str) -> "Fields":
        value = self.raw(name)
        if not isinstance(value, Mapping):
            self.refuse(name, "is not an object")
        return Fields(value, f"{self._path}{name}.")

    def integer(self, name: str, default: int | None = None) -> int:
        """A positive integer; absent or null is the default, and an error without one."""
        value = self.raw(name)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.refuse(name, "is not a positive integer")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self.raw(name)
        value = default if value is None else value
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.refuse(name, "is not a number")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.raw(name)
        value = default if value is None else value
        if not isinstance(value, bool):
            self.refuse(name, "is neither true nor false")
        return value

    def optional_integer(self, name: str) -> int | None:
        return None if self.raw(name) is None else self.integer(name)

    def optional_number(self, name: str) -> float | None:
        return None if self.raw(name) is None else self.number(name)

    def numbers(self, name: str, length: int) -> tuple[float, ...]:
        """A list of that many numbers."""
        value = self._sequence(name, length)
        if not all(isinstance(item, int | float) for item in value):
            self.refuse(name, "is not a list of numbers")
        return tuple(float(item) for item in value)

    def flags(self, name: str, length: int) -> tuple[bool, ...]:
        """A list of that many truth values, which may be written 0 and 1."""
        value = self._sequence(name, length)
        if not all(item in (0, 1) for item in value):
            self.refuse(name, "is not a list of truth values")
        return tuple(bool(item) for item in value)

    def choices(self, name: str, length: int, allowed: Sequence[str]) -> tuple[str, ...]:
        """A list of that many words, each one of those allowed."""
        value = self._sequence(name, length)
        if not all(item in allowed for item in value):
            self.refuse(name, f"has entries that are not supported; supported are {', '.join(allowed)}")
        return tuple(value)

    def expect(self, name: str, *allowed: object) -> None:
        """The only values of a field that we honour; absent is one of them."""
        if name in self._values and self.raw(name) not in allowed:
            self.refuse(name, "is not supported")

    def _sequence(self, name: str, length: int) -> Sequence[Any]:
        value = self.raw(name)
        if not isinstance(value, list | tuple) or len(value) != length:
            self.refuse(name, f"is not a list of {length}")
        return value
