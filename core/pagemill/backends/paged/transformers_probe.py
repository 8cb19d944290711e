"""What a foreign model's attention asks for, found out by running it once, before anything is served. Owns its record.

A model is run as written by its authors, so what it needs of attention is not in any one place of its configuration.
`Probe` takes the place of attention in two short forward passes and looks: each layer must call it, with arguments that
we honour; and since the probe's answer for a token depends on that token alone, so must the model's. Imports no
transformers.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pagemill.backends.paged.attention.base import AttentionSpec
from pagemill.backends.paged.model import KVShape
from pagemill.errors import ModelLoadError

TOLERANCE = 0.1  # of a hidden state's size; a state that is carried from token to token changes more than rounding does
HONOURED = frozenset(("scaling", "sliding_window", "softcap", "is_causal", "position_ids", "dropout", "cache_position"))
PROBED_TOKENS = 4


class AttentionCall(NamedTuple):
    """Attention as transformers' models call it. Query, key and value are `[1, heads, num_tokens, their size]`."""

    module: Any
    query: Tensor
    key: Tensor
    value: Tensor
    mask: object
    arguments: Mapping[str, Any]

    @property
    def name(self) -> str:
        return type(self.module).__name__


class Probe:
    """Stands in for attention, and keeps what each layer asked for."""

    def __init__(self) -> None:
        self._specs: dict[int, AttentionSpec] = {}
        self._shapes: set[tuple[int, int]] = set()  # key heads and their size

    def attend(self, call: AttentionCall) -> Tensor:
        """Give each query its own value, as if it saw nothing else."""
        layer = getattr(call.module, "layer_idx", None)
        if not isinstance(layer, int) or layer in self._specs:
            raise ModelLoadError(f"{call.name} has layer_idx={layer!r}, which is no layer's own number")
        _check_arguments(call)
        _check_shapes(call)
        self._specs[layer] = _spec(call)
        num_kv_heads, key_dim = call.key.shape[1], call.key.shape[3]
        self._shapes.add((num_kv_heads, key_dim))
        return call.value.repeat_interleave(call.query.shape[1] // num_kv_heads, dim=1).transpose(1, 2)

    def specs(self, num_layers: int) -> tuple[AttentionSpec, ...]:
        """Each layer's."""
        if missing := [layer for layer in range(num_layers) if layer not in self._specs]:
            raise ModelLoadError(f"layers {missing} keep their context in something else than keys and values")
        return tuple(self._specs[layer] for layer in range(num_layers))

    def kv_shape(self) -> KVShape:
        if len(self._shapes) != 1:
            raise ModelLoadError(f"layers differ in their keys: heads and sizes are {sorted(self._shapes)}")
        ((num_kv_heads, head_dim),) = self._shapes
        return KVShape(len(self._specs), num_kv_heads, head_dim)


def check_tokens_are_independent(forward: Callable[[Tensor, Tensor, Probe], Tensor], device: torch.device) -> None:
    """Without attention a token's hidden state depends on nothing but the token and its position: convolutions, states
    and shifts along the sequence would mix the sequences of a batch.
    """
    token_ids = torch.arange(1, PROBED_TOKENS + 1, device=device)
    positions = torch.arange(PROBED_TOKENS, device=device)
    together = forward(token_ids, positions, Probe()).float()
    alone = forward(token_ids[-1:], positions[-1:], Probe()).float()
    difference = (together[-1:] - alone).norm() / alone.norm()
    if not difference.isfinite() or difference > TOLERANCE:
        raise ModelLoadError("it carries something from token to token beside attention")


def _check_arguments(call: AttentionCall) -> None:
    if call.mask is not None:
        raise ModelLoadError(f"{call.name} masks attention in a way of its own")
    if call.arguments.get("is_causal") is False or getattr(call.module, "is_causal", True) is False:
        raise ModelLoadError(f"{call.name} is not causal")
    for name, value in call.arguments.items():
        if name not in HONOURED and value is not None and value is not False:
            raise ModelLoadError(f"{call.name} passes {name} to attention, which is not supported")


def _check_shapes(call: AttentionCall) -> None:
    num_tokens = call.query.shape[2]
    if call.key.shape[2] != num_tokens or call.value.shape[2] != num_tokens:
        raise ModelLoadError(f"{call.name} attends to something else than the sequence itself")
    key_dim, num_kv_heads = call.key.shape[3], call.key.shape[1]
    if call.query.shape[3] != key_dim or call.value.shape[3] > key_dim or call.value.shape[1] != num_kv_heads:
        shapes = [list(states.shape) for states in (call.query, call.key, call.value)]
        raise ModelLoadError(f"{call.name} has query, key and value of the shapes {shapes}")


def _spec(call: AttentionCall) -> AttentionSpec:
    scale = call.arguments.get("scaling")
    window = call.arguments.get("sliding_window", getattr(call.module, "sliding_window", None))
    return AttentionSpec(
        scale=call.query.shape[3] ** -0.5 if scale is None else float(scale),
        sliding_window=int(window) if window else None,
        soft_cap=call.arguments.get("softcap"),
    )
