"""The sampler of a batch: one row of logits a sequence in, one token a row out.

`Sampler` owns what is kept of each sequence between steps: its random numbers and how many tokens it has got. These are
known to the host without reading a token, so a step can be sampled while the one before it is on its way to the host.
"""

import random
from collections.abc import Sequence as ReadOnlySequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pagemill.backends.paged.sampling.draw import draw
from pagemill.backends.paged.sampling.rows import argmax
from pagemill.backends.paged.sampling.transfer import HostCopy, to_device
from pagemill.engine.step import SampledToken, SequenceStart
from pagemill.generation import SamplingParams


@dataclass(slots=True)
class SequenceState:
    """What is kept of a sequence from its start to its end."""

    sampling: SamplingParams
    random: random.Random
    num_sampled: int = 0


class SampledBatch:
    """The tokens of one step. `token_ids` `[num_rows]` int64 stay on the device, for the next step to begin with."""

    def __init__(self, token_ids: Tensor, sequence_ids: tuple[int, ...]) -> None:
        self.token_ids = token_ids
        self._sequence_ids = sequence_ids
        self._copy = HostCopy(token_ids)

    def collect(self) -> tuple[SampledToken, ...]:
        """The tokens on the host, in the order of the rows. Waits for this batch, but for nothing launched after it."""
        return tuple(map(SampledToken, self._sequence_ids, self._copy.values()))


class Sampler:
    """See the module. `vocab_size` is the width of the logits; `max_num_seqs` the most rows in a step."""

    def __init__(self, vocab_size: int, eos_token_ids: frozenset[int], device: torch.device, max_num_seqs: int) -> None:
        self._vocab_size = vocab_size
        self._eos_token_ids = eos_token_ids
        self._device = device
        self._max_num_seqs = max_num_seqs
        self._states: dict[int, SequenceState] = {}

    def start(self, start: SequenceStart) -> None:
        """A sequence that will be sampled."""
        seed = start.sampling.seed
        # Modulo, since Python's generator takes a seed and its negative for the same.
        source = random.Random(None if seed is None else seed % 2**64)
        self._states[start.sequence_id] = SequenceState(start.sampling, source)

    def end(self, sequence_id: int) -> None:
        """Forget a sequence, whatever was sampled for it last."""
        del self._states[sequence_id]

    @torch.inference_mode()
    def sample(self, logits: Tensor, sequence_ids: ReadOnlySequence[int]) -> SampledBatch:
        """The next token of each sequence. Row i of `logits` `[num_rows, vocab_size]`, float32, is the i-th sequence's;
        the rows may be changed. Reads nothing back from the device.
        """
        states = [self._states[sequence_id] for sequence_id in sequence_ids]
        drawn = [row for row, state in enumerate(states) if not state.sampling.greedy]
        token_ids = argmax(logits)
        if drawn:
            rows = to_device(drawn, torch.int64, self._device)
            uniforms = to_device([states[row].random.random() for row in drawn], torch.float64, self._device)
            temperatures = to_device([states[row].sampling.temperature for row in drawn], torch.float32, self._device)
            chosen = logits[rows]
            chosen -= chosen.amax(-1, keepdim=True)
            token_ids[rows] = draw(chosen.div_(temperatures.unsqueeze(1)).exp_(), uniforms)
        for state in states:
            state.num_sampled += 1
        return SampledBatch(token_ids, tuple(sequence_ids))
