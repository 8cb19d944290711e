"""Rotary embedding's tables: cosines and sines of every position, computed once. Owns no state.

Two kinds of scaling depend, in transformers, on the length of the longest sequence in the batch: "dynamic" and
"longrope". Keys in pages are rotated once and shared by sequences of any length, and what one client sends must not
change another's tokens, so here the longest sequence that is served, `max_model_len`, decides for all, as it does in
vLLM. Up to the context of the training nothing is scaled and results are transformers' own; who asks for a longer
`max_model_len` gets, for every sequence, the frequencies that transformers would use for one of that length.
"""

import math

import torch
from torch import Tensor

from pagemill.backends.paged.config import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    RopeConfig,
    YarnScaling,
)


def rope_table(rope: RopeConfig, max_model_len: int, device: torch.device) -> Tensor:
    """`[max_model_len, rotary_dim]` float32: the cosines of each position, then its sines, as `Ops.rotate` wants it."""
    angles = torch.outer(torch.arange(max_model_len, dtype=torch.float32), frequencies(rope, max_model_len))
    table = torch.cat((angles.cos(), angles.sin()), dim=-1) * attention_factor(rope)
    return table.to(device)


def frequencies(rope: RopeConfig, max_model_len: int) -> Tensor:
    """`[rotary_dim / 2]` float32: the angle from one position to the next, in radians."""
    match rope.scaling:
        case None:
            return _unscaled(rope.theta, rope.rotary_dim)
        case LinearScaling(factor=factor):
            return _unscaled(rope.theta, rope.rotary_dim) / factor
        case DynamicScaling() as scaling:
            return _dynamic(rope, scaling, max_model_len)
        case Llama3Scaling() as scaling:
            return _llama3(_unscaled(rope.theta, rope.rotary_dim), scaling)
        case YarnScaling() as scaling:
            return _yarn(rope, scaling)
        case LongRopeScaling() as scaling:
            is_long = max_model_len > scaling.original_max_positions
            factors = torch.tensor(scaling.long_factors if is_long else scaling.short_factors, dtype=torch.float32)
            return 1.0 / (factors * _powers(rope.theta, rope.rotary_dim))


def stretched_length(rope: RopeConfig, max_model_len: int) -> int:
    """The sequence length that the frequencies depend on; 0 if they are the same for any."""
    match rope.scaling:
        case DynamicScaling(original_max_positions=original) | LongRopeScaling(original_max_positions=original):
            return max_model_len if max_model_len > original else 0
    return 0


def attention_factor(rope: RopeConfig) -> float:
    """What cosines and sines are multiplied by; attention scores grow by its square."""
    match rope.scaling:
        case YarnScaling(attention_factor=factor) | LongRopeScaling(attention_factor=factor):
            return factor
    return 1.0


def _powers(theta: float, rotary_dim: int) -> Tensor:
    return theta ** (torch.arange(0, rotary_dim, 2, dtype=torch.float32) / rotary_dim)


def _unscaled(theta: float, rotary_dim: int) -> Tensor:
    return 1.0 / _powers(theta, rotary_dim)


def _dynamic(rope: RopeConfig, scaling: DynamicScaling, max_model_len: int) -> Tensor:
    length = max(max_model_len, scaling.original_max_positions)
    stretch = scaling.factor * length / scaling.original_max_positions - (scaling.factor - 1)
    return _unscaled(rope.theta * stretch ** (rope.rotary_dim / (rope.rotary_dim - 2)), rope.rotary_dim)


def _llama3(unscaled: Tensor, scaling: Llama3Scaling) -> Tensor:
    """How often a wave turns within the context of the training decides how much of it is kept."""
    turns = scaling.original_max_positions * unscaled / (2 * math.pi)
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = kept.clamp(0, 1)
    return (1 - kept) * unscaled / scaling.factor + kept * unscaled


def _yarn(rope: RopeConfig, scaling: YarnScaling) -> Tensor:
    """Waves that turn more than `beta_fast` times within the context of the training are kept, those that turn less
    than `beta_slow` times are stretched, those between blended.
    """
    low, high = (_yarn_dimension(rope, scaling, turns) for turns in (scaling.beta_fast, scaling.beta_slow))
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.rotary_dim - 1)
    width = high - low or 0.001
    stretched = ((torch.arange(rope.rotary_dim // 2, dtype=torch.float32) - low) / width).clamp(0, 1)
    unscaled = _unscaled(rope.theta, rope.rotary_dim)
    return stretched * unscaled / scaling.factor + (1 - stretched) * unscaled


def _yarn_dimension(rope: RopeConfig, scaling: YarnScaling, turns: float) -> float:
    """The dimension whose wave turns that many times within the context of the training; not a whole number."""
    wavelength = scaling.original_max_positions / (turns * 2 * math.pi)
    return rope.rotary_dim * math.log(wavelength) / (2 * math.log(rope.theta))
