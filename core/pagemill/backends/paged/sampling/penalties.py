"""Penalties for tokens that sequences already have, as vLLM defines them, for a batch of rows.

`repetition_penalty` counts prompt and output; `presence_penalty` and `frequency_penalty` count only the output. With
`penalty_last_n` all look back on the last n tokens (of prompt and output) only, as llama.cpp and Ollama do.

`Penalties` owns a seat on the device for each sequence that asks for them, and allocates nothing before there is one. A
seat holds entries: token ids with their counts, an entry for each distinct prompt token and each output token (with
`penalty_last_n` for each of the last n tokens: a ring). Entries of one token all have the same counts, so it does not
matter which of them is written last. The tokens are not known to the host when they are counted, only where they go.
"""

from collections import Counter
from collections.abc import Sequence as ReadOnlySequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from pagemill.backends.paged.sampling.transfer import to_device
from pagemill.generation import SamplingParams

MIN_ENTRIES = 64
ALL, OUTPUT = 0, 1  # the planes of counts


@dataclass(slots=True)
class Seat:
    """What the host knows of a sequence's entries."""

    number: int
    num_prompt: int  # entries that the prompt gave
    size: int | None  # of the ring; None: it never forgets
    num_entries: int  # that there ever were, also those the ring has forgotten

    @property
    def num_live(self) -> int:
        return self.num_entries if self.size is None else min(self.num_entries, self.size)

    @property
    def is_full(self) -> bool:
        return self.size is not None and self.num_entries >= self.size

    @property
    def next(self) -> int:
        """Where the next entry goes."""
        return self.num_entries if self.size is None else self.num_entries % self.size


@dataclass(frozen=True, slots=True)
class PenalizedRows:
    """Rows of a batch and their penalties, on the device: used as long as the batch stays the same."""

    sequence_ids: tuple[int, ...]
    rows: Tensor  # [num_penalized] int64
    factors: Tensor  # [3, num_penalized, 1] float32: repetition, presence, frequency


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of penalized rows `[num_penalized, length]`, and where their next ones go `[num_penalized, 1]`."""

    seats: Tensor  # [num_penalized]
    token_ids: Tensor
    counts: Tensor  # [2, num_penalized, length] int32
    next: Tensor
    forgets: Tensor  # [2, num_penalized, 1] int32: 1 if an entry that leaves lies there, and if it was output


class Penalties:
    """See the module. Room is made for `max_num_seqs` sequences at a time: preempted ones keep theirs."""

    def __init__(self, device: torch.device, max_num_seqs: int) -> None:
        self._device = device
        self._max_num_seqs = max_num_seqs
        self._seats: dict[int, Seat] = {}  # by sequence id
        self._free: list[int] = []
        self._token_ids, self._counts = self._no_entries()

    def start(self, sequence_id: int, sampling: SamplingParams, prompt_token_ids: ReadOnlySequence[int]) -> None:
        """A sequence with penalties."""
        size = sampling.penalty_last_n
        begin = 0 if size is None else max(0, len(prompt_token_ids) - size)
        counts = Counter(prompt_token_ids[begin:])
        token_ids = list(counts) if size is None else prompt_token_ids[begin:]
        length = len(token_ids)
        self._reserve(length)
        number = self._free.pop()
        self._seats[sequence_id] = Seat(number, length, size, length)
        entries = to_device([token_ids, [counts[token_id] for token_id in token_ids]], torch.int64, self._device)
        self._token_ids[number, :length] = entries[0]
        self._counts[ALL, number, :length] = entries[1]
        self._counts[OUTPUT, number, :length] = 0

    def end(self, sequence_id: int) -> None:
        """Forget a sequence, if it has penalties."""
        seat = self._seats.pop(sequence_id, None)
        if seat is None:
            return
        self._free.append(seat.number)
        if not self._seats:
            self._free = []
            self._token_ids, self._counts = self._no_entries()

    def apply(self, logits: Tensor, rows: PenalizedRows) -> Entries:
        """Penalize those rows of `[num_rows, vocab_size]`, contiguous, in place. What is returned is for `accept`."""
        entries = self._entries(rows)
        places = rows.rows.unsqueeze(1) * logits.shape[1] + entries.token_ids
        repetition, presence, frequency = rows.factors
        flat = logits.view(-1)
        values = flat[places]
        # Dividing would make a token with a negative logit more likely: those are multiplied.
        penalized = torch.where(values > 0, values / repetition, values * repetition)
        values = torch.where(entries.counts[ALL] > 0, penalized, values)
        said = entries.counts[OUTPUT]
        flat[places] = values - frequency * said - presence * (said > 0)
        return entries

    def accept(self, entries: Entries, rows: PenalizedRows, token_ids: Tensor) -> None:
        """Count what was sampled, `token_ids` `[num_rows]` of the whole batch, and forget what leaves the windows."""
        new = token_ids[rows.rows].unsqueeze(1)
        oldest = entries.token_ids.gather(1, entries.next)
        counts = entries.counts - (entries.token_ids == oldest) * entries.forgets
        known = ((entries.token_ids == new) * counts).amax(-1, keepdim=True)
        places = entries.next.expand(2, -1, -1)
        counts.scatter_(2, places, known)
        written = entries.token_ids.scatter(1, entries.next, new)
        counts += written == new
        length = written.shape[1]
        self._token_ids[entries.seats, :length] = written
        self._counts[:, entries.seats, :length] = counts
        for sequence_id in rows.sequence_ids:
            self._seats[sequence_id].num_entries += 1

    def _entries(self, rows: PenalizedRows) -> Entries:
        seats = [self._seats[sequence_id] for sequence_id in rows.sequence_ids]
        length = max(max(seat.num_live, seat.next + 1) for seat in seats)
        self._reserve(length, num_seats=0)
        known = to_device(
            [
                [seat.number for seat in seats],
                [seat.num_live for seat in seats],
                [seat.next for seat in seats],
                [int(seat.is_full) for seat in seats],
                [int(seat.is_full and seat.num_entries - seat.num_live >= seat.num_prompt) for seat in seats],
            ],
            torch.int64,
            self._device,
        )
        numbers, num_live, place, forgets = (
            known[0],
            known[1].unsqueeze(1),
            known[2].unsqueeze(1),
            known[3:].unsqueeze(2),
        )
        token_ids, counts = self._token_ids[numbers, :length], self._counts[:, numbers, :length]
        # What lies beyond the live entries must say the same as a live one, or as a token that never occurred.
        live = torch.arange(length, device=self._device) < num_live
        token_ids = torch.where(live, token_ids, token_ids[:, :1])
        counts = torch.where(live, counts, counts[:, :, :1])
        return Entries(numbers, token_ids, counts, place, forgets.int())

    def _reserve(self, length: int, num_seats: int = 1) -> None:
        """Make room for sequences of so many entries."""
        more_seats = self._max_num_seqs if num_seats > len(self._free) else 0
        capacity, width = self._token_ids.shape
        new_width = width
        while new_width < length:
            new_width = max(MIN_ENTRIES, 2 * new_width)
        if more_seats or new_width != width:
            padding = (0, new_width - width, 0, more_seats)
            self._token_ids, self._counts = pad(self._token_ids, padding), pad(self._counts, padding)
            self._free.extend(range(capacity, capacity + more_seats))

    def _no_entries(self) -> tuple[Tensor, Tensor]:
        token_ids = torch.zeros((0, 0), dtype=torch.int64, device=self._device)
        return token_ids, torch.zeros((2, 0, 0), dtype=torch.int32, device=self._device)
