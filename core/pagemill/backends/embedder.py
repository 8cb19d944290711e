"""What an embedder is: a loaded model that turns texts into vectors, or pairs of texts into scores.

It keeps nothing from one call to the next, so unlike a `Backend` it has no KV and no plans. Built by the room of its
backend, chosen in `bootstrap`. May not import a backend, HTTP or asyncio.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from pagemill.backends.base import ModelInfo, Tokenizer

if TYPE_CHECKING:
    from pagemill.backends.pair_format import PairFormat
    from pagemill.backends.surroundings import Surroundings

Vector: TypeAlias = "memoryview[float]"  # of float32
EmbeddingTask = Literal["embed", "score"]


class EmbeddingInput(NamedTuple):
    """A text, or a pair of texts as one, in tokens, with all that the model wants around them."""

    token_ids: tuple[int, ...]
    second_start: int | None = None  # of a pair: where the part begins that is the second text's


@runtime_checkable
class Embedder(Protocol):
    """A loaded model. One thread calls `embed`; all else is free for all."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def task(self) -> EmbeddingTask:
        """ "embed": a vector for each text; "score": one number for each pair, larger where the second text answers to
        the first better (a cross-encoder).
        """
        ...

    @property
    def max_model_len(self) -> int:
        """The longest input, in tokens."""
        ...

    @property
    def max_num_seqs(self) -> int:
        """The most inputs in one step."""
        ...

    @property
    def max_num_batched_tokens(self) -> int:
        """The most tokens in one step. One input alone may have more, up to `max_model_len`."""
        ...

    @property
    def surroundings(self) -> "Surroundings":
        """What the model wants around a text, and between two."""
        ...

    @property
    def pairs(self) -> "PairFormat":
        """How the model takes two texts as one input, if its task is "score"."""
        ...

    @property
    def prompt(self) -> str:
        """What the model wants before each text that is to be embedded alone; mostly nothing."""
        ...

    def embed(self, inputs: Sequence[EmbeddingInput]) -> list[Vector]:
        """One step: the vector of each input, as the model gives it (of any length, finite), or a score as a vector of
        one number.

        Raises:
            BackendError: the step failed.
        """
        ...

    def close(self) -> None:
        """Free the model. Nothing may be called after it. Idempotent."""
        ...
