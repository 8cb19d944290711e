"""Turns conversations into fixed-length training rows.

A `RowStream` owns its rows and its place among them; the chunk number seeds its generator, so a stream can be saved
as two integers and continued exactly.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

import torch
from tokenizers import Tokenizer
from torch import Tensor

from grist.dialogue import Conversation
from grist.rendering import Segment, render
from grist.tokenizer import PAD

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids and, for each position, the next token where the model is trained to say it (`IGNORED` elsewhere)."""

    ids: list[int]
    targets: list[int]


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch: `ids`, `targets` and `documents`, each `[num_rows, length]`."""

    ids: Tensor
    targets: Tensor
    documents: Tensor

    def mask(self, dtype: torch.dtype) -> Tensor:
        """Additive attention mask `[num_rows, 1, length, length]`: causal, and within one document only."""
        same = self.documents[:, :, None] == self.documents[:, None, :]
        allowed = same & torch.ones_like(same[0]).tril()
        return torch.zeros(allowed.shape, dtype=dtype).masked_fill(~allowed, float("-inf"))[:, None]


def pad_id(tokenizer: Tokenizer) -> int:
    """The id of the padding token. Raises ValueError for a tokenizer that is not grist's."""
    found: int | None = tokenizer.token_to_id(PAD)
    if found is None:
        raise ValueError(f"the tokenizer has no {PAD}: train it with grist.tokenizer")
    return found


class StreamState(TypedDict):
    """Where a stream stands."""

    chunk: int
    cursor: int


def encode(tokenizer: Tokenizer, segment_lists: list[list[Segment]]) -> list[Encoded]:
    """Encode rendered conversations. Segments are encoded apart: none starts or ends inside a token."""
    flat = [text for segments in segment_lists for text, _ in segments]
    pieces = iter(tokenizer.encode_batch_fast(flat, add_special_tokens=False))
    encoded = []
    for segments in segment_lists:
        ids: list[int] = []
        said: list[bool] = []
        for _, spoken in segments:
            piece = next(pieces).ids
            ids += piece
            said += [spoken] * len(piece)
        targets = [token if spoken else IGNORED for token, spoken in zip(ids[1:], said[1:], strict=True)]
        encoded.append(Encoded(ids[:-1], targets))
    return encoded


def pack(items: list[Encoded], length: int) -> list[list[Encoded]]:
    """Fill rows of `length` positions by best fit, longest first. Items that cannot fit are dropped."""
    open_rows: list[list[list[Encoded]]] = [[] for _ in range(length + 1)]
    for item in sorted(items, key=lambda each: -len(each.ids)):
        need = len(item.ids)
        space = next((space for space in range(need, length + 1) if open_rows[space]), None)
        if space is not None:
            row = open_rows[space].pop()
        elif need <= length:
            space, row = length, []
        else:
            continue
        row.append(item)
        open_rows[space - need].append(row)
    return [row for rows in open_rows for row in rows]


def to_rows(packed: list[list[Encoded]], length: int, pad: int) -> Rows:
    """Lay packed items out as tensors; padding is a document of its own and has no targets."""
    ids = torch.full((len(packed), length), pad)
    targets = torch.full((len(packed), length), IGNORED)
    documents = torch.full((len(packed), length), -1)
    for index, row in enumerate(packed):
        start = 0
        for number, item in enumerate(row):
            stop = start + len(item.ids)
            ids[index, start:stop] = torch.tensor(item.ids)
            targets[index, start:stop] = torch.tensor(item.targets)
            documents[index, start:stop] = number
            start = stop
    return Rows(ids, targets, documents)


class RowStream:
    """An endless, seeded stream of rows. `next_rows` advances it; nothing else does."""

    def __init__(
        self,
        name: str,
        seed: int,
        tokenizer: Tokenizer,
        length: int,
        draw_chunk: Callable[[random.Random], list[Conversation]],
    ) -> None:
        self._label = f"{seed}/{name}"
        self._tokenizer = tokenizer
        self._length = length
        self._draw_chunk = draw_chunk
        self._pad = pad_id(tokenizer)
        self._chunk = 0
        self._cursor = 0
        self._rows: list[list[Encoded]] = []

    def state(self) -> StreamState:
        """Where the stream stands, for a checkpoint."""
        return {"chunk": self._chunk, "cursor": self._cursor}

    def restore(self, state: StreamState) -> None:
        """Continue exactly where `state` was taken."""
        self._chunk, self._cursor = state["chunk"], state["cursor"]
        self._rows = self._make_chunk(self._chunk)

    def next_rows(self, num_rows: int) -> Rows:
        """Return the next `num_rows` rows; the tail of a chunk too short for a batch is left out."""
        if not self._rows:
            self._rows = self._make_chunk(self._chunk)
        if self._cursor + num_rows > len(self._rows):
            self._chunk, self._cursor = self._chunk + 1, 0
            self._rows = self._make_chunk(self._chunk)
        taken = self._rows[self._cursor : self._cursor + num_rows]
        self._cursor += num_rows
        return to_rows(taken, self._length, self._pad)

    def _make_chunk(self, number: int) -> list[list[Encoded]]:
        rng = random.Random(f"{self._label}/{number}")
        conversations = self._draw_chunk(rng)
        items = encode(self._tokenizer, [render(c.messages, c.tools) for c in conversations])
        rows = pack([Encoded(i.ids[: self._length], i.targets[: self._length]) for i in items], self._length)
        rng.shuffle(rows)
        return rows
