"""The sampler of a batch: one row of logits a sequence in, one token a row out.

`Sampler` owns what is kept of each sequence between steps: its random numbers, how many tokens it has got, and (in
`Penalties`) which. All of it goes on without the host reading a token, so a step can be sampled while the tokens of the
one before it are on their way.
"""

from collections.abc import Sequence as ReadOnlySequence
from random import Random

import torch
from torch import Tensor

from pagemill.backends.paged.sampling.layout import Layout, SequenceState, lay_out
from pagemill.backends.paged.sampling.logprobs import entry, score
from pagemill.backends.paged.sampling.masks import keep_only
from pagemill.backends.paged.sampling.penalties import Penalties
from pagemill.backends.paged.sampling.transfer import HostCopy, to_device
from pagemill.engine.step import SampledToken, SequenceStart


class SampledBatch:
    """The tokens of one step. `token_ids` `[num_rows]` int64 stay on the device, for the next step to begin with."""

    def __init__(self, token_ids: Tensor, scores: Tensor | None, layout: Layout) -> None:
        self.token_ids = token_ids
        self._layout = layout
        self._num_scores = 0 if scores is None else scores.shape[1]
        # One copy for all: float64 holds every token id exactly.
        self._copy = HostCopy(token_ids if scores is None else torch.cat((token_ids.double(), scores.flatten())))

    def collect(self) -> tuple[SampledToken, ...]:
        """The tokens on the host, in the order of the rows. Waits for this batch, but for nothing launched after it."""
        layout, values = self._layout, self._copy.values()
        sampled = [
            SampledToken(sequence_id, int(token_id))
            for sequence_id, token_id in zip(layout.sequence_ids, values, strict=False)
        ]
        begin = len(sampled)
        for row in layout.scored:
            numbers = values[begin : begin + self._num_scores]
            begin += self._num_scores
            sequence_id, token_id, _ = sampled[row]
            logprobs = entry(token_id, numbers, layout.states[row].sampling.logprobs or 0)
            sampled[row] = SampledToken(sequence_id, token_id, logprobs)
        return tuple(sampled)


class Sampler:
    """See the module. `vocab_size` is the width of the logits; `max_num_seqs` the most rows in a step."""

    def __init__(self, vocab_size: int, eos_token_ids: frozenset[int], device: torch.device, max_num_seqs: int) -> None:
        self._vocab_size = vocab_size
        self._eos_token_ids = eos_token_ids
        self._device = device
        self._states: dict[int, SequenceState] = {}
        self._penalties = Penalties(device, max_num_seqs)
        self._layout: Layout | None = None  # of the last step

    @torch.inference_mode()
    def start(self, start: SequenceStart) -> None:
        """A sequence that will be sampled."""
        sampling = start.sampling
        # Modulo, since Python's generator takes a seed and its negative for the same.
        source = Random(None if sampling.seed is None else sampling.seed % 2**64)
        end_token_ids = tuple(sorted(sampling.end_token_ids(self._eos_token_ids)))
        self._states[start.sequence_id] = SequenceState(start.sequence_id, sampling, end_token_ids, source)
        if sampling.has_penalties:
            self._penalties.start(start.sequence_id, sampling, start.prompt_token_ids)

    def end(self, sequence_id: int) -> None:
        """Forget a sequence, whatever was sampled for it last."""
        del self._states[sequence_id]
        self._penalties.end(sequence_id)
        self._layout = None

    @torch.inference_mode()
    def sample(
        self, logits: Tensor, sequence_ids: ReadOnlySequence[int], masks: ReadOnlySequence[bytes | None] = ()
    ) -> SampledBatch:
        """The next token of each sequence, one of those that its mask allows (None, or no masks: all of them). Row i of
        `logits` `[num_rows, vocab_size]`, float32 and contiguous, is the i-th sequence's; the rows may be changed.
        Reads nothing back from the device.
        """
        layout = self._laid_out(tuple(sequence_ids))
        raw = logits[layout.scored_rows].clone() if layout.scored else None
        if layout.adjustments is not None:
            layout.adjustments.apply(logits)
        entries = None if layout.penalized is None else self._penalties.apply(logits, layout.penalized)
        keep_only(logits, masks)
        token_ids = self._choose(logits, layout)
        if layout.penalized is not None and entries is not None:
            self._penalties.accept(entries, layout.penalized, token_ids)
        for state in layout.states:
            state.num_sampled += 1
        scores = None if raw is None else score(raw, token_ids[layout.scored_rows], layout.num_top)
        return SampledBatch(token_ids, scores, layout)

    def _laid_out(self, sequence_ids: tuple[int, ...]) -> Layout:
        if self._layout is None or not self._layout.fits(sequence_ids):
            states = tuple(self._states[sequence_id] for sequence_id in sequence_ids)
            self._layout = lay_out(states, self._vocab_size, self._device)
        return self._layout

    def _choose(self, logits: Tensor, layout: Layout) -> Tensor:
        draws = to_device([state.random.random() for state in layout.drawn], torch.float64, self._device)
        if len(layout.groups) == 1:
            return layout.groups[0].choose(logits, draws)
        token_ids = torch.empty(len(logits), dtype=torch.int64, device=self._device)
        begin = 0
        for group in layout.groups:
            end = begin + (0 if group.filters is None else len(group.states))
            token_ids[group.rows] = group.choose(logits, draws[begin:end])
            begin = end
        return token_ids
