"""What a backend is: a loaded model that executes step plans.

A backend is built by its own room (`backends/gguf`, `backends/paged`, `backends/fake`), chosen in `bootstrap`. It may
not import another backend, HTTP or asyncio.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from pagemill.engine.kv_cache import KVCache
from pagemill.engine.step import StepPlan, StepResult
from pagemill.generation import InfillTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What is known of a loaded model, for `/api/show`, `/api/ps` and the logs."""

    architecture: str  # "llama", "qwen3", ...
    num_parameters: int
    quantization: str  # "Q8_0", "BF16", ...
    format: str  # "gguf" or "safetensors"
    size_bytes: int  # weights on disk
    memory_bytes: int  # weights and KV in memory
    on_gpu: bool = False  # whose memory that is
    vocab_size: int
    context_length: int  # what the model was trained for, in tokens
    embedding_length: int
    chat_template: str | None = None  # Jinja source
    metadata: Mapping[str, object] = field(default_factory=dict)  # the file's own keys, arrays included


class Tokenizer(Protocol):
    """Text to token ids and back. Safe to call from several threads at once."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def bos_token(self) -> str:
        """The beginning-of-sequence token's text, "" if there is none."""
        ...

    @property
    def eos_token(self) -> str:
        """The end-of-sequence token's text, "" if there is none."""
        ...

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """All tokens that end a generation (end of sequence, of turn, of message)."""
        ...

    @property
    def infill_tokens(self) -> InfillTokens | None:
        """The special tokens for filling in the middle, None if the model has none."""
        ...

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of `text`.

        `add_special`: add what the model wants around a text (a BOS token), as its file says.
        `parse_special`: take "<|im_start|>" and the like for the special tokens they name, not for plain text.
        """
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes (perhaps part of a character) that the token adds to a text; of a special token, its name."""
        ...

    def is_special(self, token_id: int) -> bool:
        """Whether the token is a control token, with no text of its own."""
        ...


class Backend(Protocol):
    """A loaded model. One thread (the step loop's) calls `execute`, `save_kv` and `load_kv`; `tokenizer`, `info` and
    the limits are free for all.
    """

    @property
    def info(self) -> ModelInfo: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def max_model_len(self) -> int:
        """The longest sequence (prompt and output), in tokens."""
        ...

    @property
    def max_num_seqs(self) -> int:
        """The most sequences in one step."""
        ...

    @property
    def max_num_batched_tokens(self) -> int:
        """The most tokens in one step."""
        ...

    def new_kv_cache(self, *, enable_prefix_caching: bool) -> KVCache:
        """Bookkeeping for this backend's KV memory, all of it free. Called once, by the engine."""
        ...

    def kv_identity(self) -> Mapping[str, str | int]:
        """What saved KV depends on beside the model's files: types, layout, positions. By the setting's name where one
        decides it. KV that was saved by one backend may be loaded by another of the same identity.
        """
        ...

    def save_kv(self, placement: tuple[int, ...], num_tokens: int) -> memoryview:
        """A copy of the first `num_tokens` tokens' KV, which are all that the placement's slot or blocks hold.

        Raises:
            BackendError: this model's can't be saved.
        """
        ...

    def load_kv(self, placement: tuple[int, ...], num_tokens: int, data: memoryview) -> None:
        """Put what `save_kv` gave for so many tokens where the placement says. `data` is writable, and may be changed.

        Raises:
            BackendError: it does not fit; what the placement holds is undefined.
        """
        ...

    def execute(self, plan: StepPlan) -> StepResult:
        """Run one step, to its end.

        Raises:
            BackendError: the step failed; the KV of the plan's sequences is undefined, that of others is not touched.
        """
        ...

    def close(self) -> None:
        """Free the model. Nothing may be called after it. Idempotent."""
        ...


class StepInFlight(Protocol):
    """A step that has begun."""

    def result(self) -> StepResult:
        """Wait for its end.

        Raises:
            BackendError: as `Backend.execute`.
        """
        ...


@runtime_checkable
class PipelinedBackend(Backend, Protocol):
    """A backend whose device computes by itself, so that the host can prepare a step while the one before it runs."""

    @property
    def pipelined(self) -> bool:
        """Whether to: else `execute` is called, as on any backend."""
        ...

    def launch(self, plan: StepPlan) -> StepInFlight:
        """Begin a step, behind the one that is in flight; chunks of this plan may follow that one (`SequenceChunk`).
        What fails is told by the step's `result`.
        """
        ...


def decode(tokenizer: Tokenizer, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
    """The text of a whole list of tokens; bytes that are no UTF-8 become U+FFFD."""
    pieces = (
        tokenizer.token_bytes(token_id)
        for token_id in token_ids
        if not (skip_special_tokens and tokenizer.is_special(token_id))
    )
    return b"".join(pieces).decode("utf-8", errors="replace")
