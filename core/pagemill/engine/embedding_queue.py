"""Which inputs the next step embeds. Owns the requests that are not finished; reads no clock, so the same arrivals give
the same batches. May not import backends or asyncio.

Requests take turns, one input at a time, until the step is full: a request of one text waits for a step, not for the
thousand texts of the request before it. Each gives its longest inputs first, so those that meet in a step are alike.
"""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagemill.backends.embedder import EmbeddingInput, Vector


class EmbeddingWork:
    """One request: its inputs, and their vectors as they come."""

    def __init__(self, key: int, inputs: "Sequence[EmbeddingInput]", arrived_at: float) -> None:
        self.key = key
        self.inputs = inputs
        self.arrived_at = arrived_at  # time.monotonic()
        self.started_at: float | None = None
        self.vectors: dict[int, Vector] = {}  # by the input's index
        self._left = deque(sorted(range(len(inputs)), key=lambda index: -len(inputs[index].token_ids)))

    @property
    def num_tokens(self) -> int:
        return sum(len(item.token_ids) for item in self.inputs)

    @property
    def num_left(self) -> int:
        """Inputs that no step has taken."""
        return len(self._left)

    @property
    def is_finished(self) -> bool:
        return len(self.vectors) == len(self.inputs)

    @property
    def next_length(self) -> int:
        """Tokens of the input that is next."""
        return len(self.inputs[self._left[0]].token_ids)

    def take(self) -> int:
        """The index of the input that is next; the caller embeds it."""
        return self._left.popleft()


class EmbeddingQueue:
    """The requests that have inputs left, in turn."""

    def __init__(self, *, max_num_seqs: int, max_num_batched_tokens: int) -> None:
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self._turns: deque[EmbeddingWork] = deque()

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def num_waiting(self) -> int:
        """Inputs that no step has taken."""
        return sum(work.num_left for work in self._turns)

    def add(self, work: EmbeddingWork) -> None:
        self._turns.append(work)

    def discard(self, work: EmbeddingWork) -> None:
        """The request has ended otherwise."""
        if work in self._turns:
            self._turns.remove(work)

    def next_batch(self) -> list[tuple[EmbeddingWork, int]]:
        """Take the inputs of the next step: (request, the input's index). Empty if there is nothing to do; otherwise it
        has one at least, however long.
        """
        batch: list[tuple[EmbeddingWork, int]] = []
        room = self._max_num_batched_tokens
        while self._turns and len(batch) < self._max_num_seqs:
            work = self._turns[0]
            room -= work.next_length
            if batch and room < 0:
                break
            self._turns.popleft()
            batch.append((work, work.take()))
            if work.num_left:
                self._turns.append(work)
        return batch
