"""Drives a `PagedModel` as the backend does, step by step, over pages in random order. Knows no scheduler."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pagemill.backends.paged.attention.base import AttentionBatch, Prefill
from pagemill.backends.paged.kv_pool import KVPool
from pagemill.backends.paged.model import PagedModel


@dataclass(slots=True)
class DrivenSequence:
    """What is in the pages of one sequence."""

    length: int = 0
    blocks: list[int] = field(default_factory=list)


class PagedDriver:
    """Sequences go by number. Pages hold NaN until they are written, so that reading an unwritten one shows."""

    def __init__(
        self, model: PagedModel, *, num_blocks: int = 96, block_size: int = 16, dtype: torch.dtype = torch.float32
    ) -> None:
        shape = model.kv_shape
        self._model = model
        self._pool = KVPool(
            num_layers=shape.num_layers,
            num_blocks=num_blocks,
            block_size=block_size,
            num_kv_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            dtype=dtype,
            device=torch.device("cpu"),
        )
        for layer in self._pool.layers:
            layer.keys.fill_(float("nan"))
            layer.values.fill_(float("nan"))
        self._free = torch.randperm(num_blocks, generator=torch.Generator().manual_seed(0)).tolist()
        self._sequences: dict[int, DrivenSequence] = {}

    def step(self, chunks: Sequence[tuple[int, Sequence[int]]]) -> list[Tensor]:
        """Run the next tokens of some sequences; each chunk's logits `[num_tokens, vocab_size]`, in the same order."""
        order = sorted(range(len(chunks)), key=lambda index: len(chunks[index][1]) != 1)
        parts = [self._place(*chunks[index]) for index in order]
        token_ids = torch.tensor([token for index in order for token in chunks[index][1]])
        positions = torch.cat([torch.arange(len(slots)) + start for start, slots in parts])
        batch = self._batch([chunks[index][0] for index in order], [len(slots) for _, slots in parts])
        batch.slots.copy_(torch.tensor([slot for _, slots in parts for slot in slots]))
        with torch.inference_mode():
            logits = self._model.logits(self._model.forward(token_ids, positions, batch, self._pool.layers))
        pieces = logits.split_with_sizes([len(slots) for _, slots in parts])
        return [piece for _, piece in sorted(zip(order, pieces, strict=True), key=lambda pair: pair[0])]

    def teacher_forced(self, texts: Sequence[Sequence[int]], chunk: int, budget: int) -> list[Tensor]:
        """All logits of each text. Each turn takes up to `chunk` of a text's tokens, and all together `budget`, the
        earliest first; the last few tokens of a text go one at a time, while others are still at their prompts.
        """
        outputs: list[list[Tensor]] = [[] for _ in texts]
        done = [0] * len(texts)
        while any(count < len(text) for count, text in zip(done, texts, strict=True)):
            chunks, left = [], budget
            for number, text in enumerate(texts):
                tail = len(text) - 6
                size = min(chunk, tail - done[number]) if done[number] < tail else min(1, len(text) - done[number])
                if size := min(size, left):
                    chunks.append((number, text[done[number] : done[number] + size]))
                    done[number] += size
                    left -= size
            for (number, _), logits in zip(chunks, self.step(chunks), strict=True):
                outputs[number].append(logits)
        return [torch.cat(pieces) for pieces in outputs]

    def greedy(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> list[list[int]]:
        """The most likely continuations; the prompts go in one step."""
        answers: list[list[int]] = [[] for _ in prompts]
        chunks: list[tuple[int, Sequence[int]]] = list(enumerate(prompts))
        for _ in range(num_tokens):
            for answer, logits in zip(answers, self.step(chunks), strict=True):
                answer.append(int(logits[-1].argmax()))
            chunks = [(number, answer[-1:]) for number, answer in enumerate(answers)]
        return answers

    def _place(self, number: int, tokens: Sequence[int]) -> tuple[int, list[int]]:
        """Where the sequence stood, and the slots of its next tokens, for which it gets pages."""
        sequence = self._sequences.setdefault(number, DrivenSequence())
        start, size = sequence.length, self._pool.block_size
        sequence.length += len(tokens)
        while len(sequence.blocks) * size < sequence.length:
            sequence.blocks.append(self._free.pop())
        return start, [sequence.blocks[at // size] * size + at % size for at in range(start, sequence.length)]

    def _batch(self, numbers: Sequence[int], counts: Sequence[int]) -> AttentionBatch:
        sequences = [self._sequences[number] for number in numbers]
        starts = [0]
        for count in counts:
            starts.append(starts[-1] + count)
        tables = torch.zeros(len(numbers), max(len(sequence.blocks) for sequence in sequences), dtype=torch.int32)
        for row, sequence in enumerate(sequences):
            tables[row, : len(sequence.blocks)] = torch.tensor(sequence.blocks, dtype=torch.int32)
        num_decodes = sum(count == 1 for count in counts)
        return AttentionBatch(
            num_decodes=num_decodes,
            query_starts=torch.tensor(starts, dtype=torch.int32),
            context_lens=torch.tensor([sequence.length for sequence in sequences], dtype=torch.int32),
            block_tables=tables,
            slots=torch.empty(starts[-1], dtype=torch.int64),
            max_query_len=max(counts),
            max_context_len=max(sequence.length for sequence in sequences),
            prefills=tuple(
                Prefill(row, starts[row], counts[row], sequences[row].length)
                for row in range(num_decodes, len(numbers))
            ),
        )
