"""How the rows of one batch are sampled: which need what. Made once, and used as long as the batch stays the same.

A `Layout` owns the device's copy of its rows' parameters. Rows are put into groups that are sampled together; on the
CPU a group is no larger than what a core's cache holds.
"""

import math
from collections.abc import Sequence as ReadOnlySequence
from dataclasses import dataclass
from enum import IntEnum
from random import Random

import torch
from torch import Tensor

from pagemill.backends.paged.sampling.adjustments import Adjustments
from pagemill.backends.paged.sampling.filters import Filters, draw_from_all, draw_from_nucleus, draw_from_top_k
from pagemill.backends.paged.sampling.penalties import PenalizedRows
from pagemill.backends.paged.sampling.rows import argmax, num_rows_at_once
from pagemill.backends.paged.sampling.transfer import to_device
from pagemill.generation import SamplingParams


@dataclass(slots=True)
class SequenceState:
    """What is kept of a sequence from its start to its end."""

    sequence_id: int
    sampling: SamplingParams
    end_token_ids: tuple[int, ...]
    random: Random
    num_sampled: int = 0

    @property
    def may_end(self) -> bool:
        return self.num_sampled >= self.sampling.min_tokens


class Draw(IntEnum):
    """From what a row's token is drawn."""

    GREEDY = 0
    ALL = 1
    NUCLEUS = 2
    TOP_K = 3


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are sampled together."""

    draw: Draw
    rows: Tensor | slice  # of the batch; a slice is looked at where it lies
    states: tuple[SequenceState, ...]
    filters: Filters | None  # None: greedy
    max_top_k: int

    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """The tokens of these rows of the batch's logits, which may be changed."""
        rows = logits[self.rows]
        if self.filters is None:
            return argmax(rows)
        if self.draw is Draw.ALL:
            return draw_from_all(rows, self.filters, uniforms)
        if self.draw is Draw.NUCLEUS:
            return draw_from_nucleus(rows, self.filters, uniforms)
        return draw_from_top_k(rows, self.filters, uniforms, self.max_top_k)


@dataclass(frozen=True, slots=True)
class Layout:
    """See the module. `banned` are the rows that may not end yet; `scored` those that want logprobs."""

    sequence_ids: tuple[int, ...]
    states: tuple[SequenceState, ...]
    held_back: tuple[SequenceState, ...]
    groups: tuple[Group, ...]
    drawn: tuple[SequenceState, ...]  # in the order of the groups
    adjustments: Adjustments | None
    penalized: PenalizedRows | None
    scored: tuple[int, ...]
    scored_rows: Tensor | slice
    num_top: int  # the most alternatives that any row wants

    def fits(self, sequence_ids: tuple[int, ...]) -> bool:
        """Whether it may be used again for the next step of these sequences."""
        return self.sequence_ids == sequence_ids and not any(state.may_end for state in self.held_back)


def lay_out(states: tuple[SequenceState, ...], vocab_size: int, device: torch.device) -> Layout:
    """The layout of a batch, one row a state."""
    samplings = [state.sampling for state in states]
    held_back = {row: state for row, state in enumerate(states) if not state.may_end}
    adjusted = held_back or any(item.logit_bias or item.allowed_token_ids is not None for item in samplings)
    banned = [(row, state.end_token_ids) for row, state in held_back.items()]
    penalized = [row for row, sampling in enumerate(samplings) if sampling.has_penalties]
    scored = tuple(row for row, sampling in enumerate(samplings) if sampling.logprobs is not None)
    groups = tuple(_groups(states, vocab_size, device))
    return Layout(
        sequence_ids=tuple(state.sequence_id for state in states),
        states=states,
        held_back=tuple(held_back.values()),
        groups=groups,
        drawn=tuple(state for group in groups if group.filters is not None for state in group.states),
        adjustments=Adjustments(samplings, banned, vocab_size, device) if adjusted else None,
        penalized=_penalized(penalized, states, device) if penalized else None,
        scored=scored,
        scored_rows=_index(scored, device),
        num_top=min(max((samplings[row].logprobs or 0 for row in scored), default=0), vocab_size),
    )


def _groups(states: ReadOnlySequence[SequenceState], vocab_size: int, device: torch.device) -> list[Group]:
    by_kind: dict[tuple[Draw, int], list[int]] = {}
    for row, state in enumerate(states):
        by_kind.setdefault(_kind(state.sampling, vocab_size), []).append(row)
    at_once = num_rows_at_once(vocab_size, device)
    groups = []
    for (draw, _), rows in sorted(by_kind.items()):
        if len(rows) == len(states) and draw is Draw.GREEDY:
            at_once = len(rows)  # nothing is written, so there is nothing to keep in the cache
        groups += [_group(draw, rows[i : i + at_once], states, device) for i in range(0, len(rows), at_once)]
    return groups


def _kind(sampling: SamplingParams, vocab_size: int) -> tuple[Draw, int]:
    """What is drawn from, and for top-k how many (by powers of two: a large k should not slow a small one down)."""
    if sampling.greedy:
        return Draw.GREEDY, 0
    if 0 < sampling.top_k < vocab_size:
        return Draw.TOP_K, (sampling.top_k - 1).bit_length()
    if sampling.top_p < 1.0 or sampling.typical_p < 1.0:
        return Draw.NUCLEUS, 0
    return Draw.ALL, 0


def _group(draw: Draw, rows: list[int], states: ReadOnlySequence[SequenceState], device: torch.device) -> Group:
    chosen = tuple(states[row] for row in rows)
    samplings = [state.sampling for state in chosen]
    filters = None if draw is Draw.GREEDY else _filters(samplings, device)
    return Group(draw, _index(rows, device), chosen, filters, max(sampling.top_k for sampling in samplings))


def _filters(samplings: ReadOnlySequence[SamplingParams], device: torch.device) -> Filters:
    parameters = [
        (
            item.temperature,
            item.typical_p if item.typical_p < 1.0 else torch.inf,
            item.top_p if item.top_p < 1.0 else torch.inf,
            math.log(item.min_p) if item.min_p > 0.0 else -torch.inf,
        )
        for item in samplings
    ]
    temperature, typical_p, top_p, log_min_p = to_device(parameters, torch.float64, device).unsqueeze(-1).unbind(1)
    top_k = to_device([[item.top_k] for item in samplings], torch.int64, device)
    any_typical = any(item.typical_p < 1.0 for item in samplings)
    any_min_p = any(item.min_p > 0.0 for item in samplings)
    return Filters(temperature, top_k, typical_p, top_p, log_min_p, any_typical, any_min_p)


def _penalized(rows: list[int], states: ReadOnlySequence[SequenceState], device: torch.device) -> PenalizedRows:
    samplings = [states[row].sampling for row in rows]
    factors = [
        [[item.repetition_penalty] for item in samplings],
        [[item.presence_penalty] for item in samplings],
        [[item.frequency_penalty] for item in samplings],
    ]
    return PenalizedRows(
        tuple(states[row].sequence_id for row in rows),
        to_device(rows, torch.int64, device),
        to_device(factors, torch.float32, device),
    )


def _index(rows: ReadOnlySequence[int], device: torch.device) -> Tensor | slice:
    """Rows that follow each other need no copy."""
    if not rows:
        return slice(0)
    if rows[-1] - rows[0] + 1 == len(rows):
        return slice(rows[0], rows[-1] + 1)
    return to_device(rows, torch.int64, device)
