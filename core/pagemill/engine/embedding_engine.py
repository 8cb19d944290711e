"""The asynchronous face of an embedder: texts in tokens in, vectors out. What `Engine` is for models that generate.

Lives on one event loop and owns the open requests; the embedder belongs to the loop's thread. May not import backends.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from pagemill.engine.embedding_loop import EmbeddingCancellation, EmbeddingLoop, EmbeddingSubmission, Stop
from pagemill.engine.engine import EngineConfig
from pagemill.errors import (
    BackendError,
    ContextLengthError,
    DrainingError,
    EngineDeadError,
    InvalidRequestError,
    QueueFullError,
    RequestTimeoutError,
    UnavailableError,
    UnsupportedParameterError,
)

if TYPE_CHECKING:
    from pagemill.backends.base import ModelInfo, Tokenizer
    from pagemill.backends.embedder import Embedder, EmbeddingInput, EmbeddingTask, Vector
    from pagemill.backends.pair_format import PairFormat
    from pagemill.backends.surroundings import Surroundings
    from pagemill.engine.statistics import EngineStats
    from pagemill.generation import GenerationRequest

logger = logging.getLogger(__name__)


class EmbeddingEngine:
    """One loaded model, embedding for many clients at once. `name` is the model's.

    `start` must be called on the event loop that will call everything else. `max_num_seqs` requests may be open, and
    `max_num_queued_reqs` more; the rest are refused.
    """

    def __init__(self, embedder: "Embedder", name: str, config: EngineConfig | None = None) -> None:
        self._embedder = embedder
        self._name = name
        self._config = config or EngineConfig()
        self._open: dict[int, asyncio.Future[list[Vector]]] = {}  # by key
        self._next_key = 0
        self._draining = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._loop = EmbeddingLoop(embedder, self._publish, self._died)

    @property
    def info(self) -> "ModelInfo":
        return self._embedder.info

    @property
    def tokenizer(self) -> "Tokenizer":
        return self._embedder.tokenizer

    @property
    def task(self) -> "EmbeddingTask":
        """See `Embedder.task`."""
        return self._embedder.task

    @property
    def surroundings(self) -> "Surroundings":
        """See `Embedder.surroundings`."""
        return self._embedder.surroundings

    @property
    def pairs(self) -> "PairFormat":
        """See `Embedder.pairs`."""
        return self._embedder.pairs

    @property
    def prompt(self) -> str:
        """See `Embedder.prompt`."""
        return self._embedder.prompt

    @property
    def max_model_len(self) -> int:
        """Longest input, in tokens."""
        return self._embedder.max_model_len

    @property
    def max_num_seqs(self) -> int:
        """Most inputs in one step."""
        return self._embedder.max_num_seqs

    @property
    def alive(self) -> bool:
        """Whether the loop runs: False after a failure that only a new process mends."""
        return self._loop.death is None

    def num_unfinished(self) -> int:
        """Requests that were accepted and have not ended."""
        return len(self._open)

    def start(self) -> None:
        """Start the loop's thread."""
        self._event_loop = asyncio.get_running_loop()
        self._loop.start()

    def stats(self) -> "EngineStats":
        """The engine at this moment, at most a step old."""
        return self._loop.stats()

    def generate(self, request: "GenerationRequest") -> NoReturn:
        """Raises UnsupportedParameterError: this model does not generate text."""
        raise UnsupportedParameterError(f'"{self._name}" does not support generate', param="model")

    async def embed(self, inputs: "Sequence[EmbeddingInput]") -> "list[Vector]":
        """The vectors of all inputs, in their order. A cancelled call leaves what no step has taken.

        Raises:
            ContextLengthError: an input is longer than `max_model_len`.
            InvalidRequestError: a token id is not in the vocabulary.
            QueueFullError, DrainingError, EngineDeadError: not now, or not any more.
            RequestTimeoutError: it took longer than the configuration allows.
            BackendError: the step failed.
        """
        self._check(inputs)
        if not inputs:
            return []
        key, self._next_key = self._next_key, self._next_key + 1
        future: asyncio.Future[list[Vector]] = asyncio.get_running_loop().create_future()
        self._open[key] = future
        self._idle.clear()
        self._loop.send(EmbeddingSubmission(key, tuple(inputs), time.monotonic()))
        try:
            async with asyncio.timeout(self._config.request_timeout_s or None):
                return await future
        except TimeoutError as error:
            raise RequestTimeoutError(f"the request took longer than {self._config.request_timeout_s:g} s") from error
        finally:
            self._release(key)

    async def drain(self, timeout_s: float) -> None:
        """Refuse new requests, let the open ones end, abort what is left at the timeout."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        if self._open:
            logger.warning("aborting %d requests that did not end within %g s", len(self._open), timeout_s)
        self._fail_open(self._shutdown())

    async def close(self) -> None:
        """End what runs, stop the thread, free the model. Idempotent."""
        self._draining = True
        if self._closed:
            return
        self._closed = True
        self._fail_open(self._shutdown())
        if self._event_loop is None:
            self._embedder.close()
            return
        self._loop.send(Stop())
        await asyncio.to_thread(self._loop.join)

    def _check(self, inputs: "Sequence[EmbeddingInput]") -> None:
        """Refuse what can't run now or ever."""
        retry_after_s = self._config.retry_after_s
        if self._loop.death is not None:
            raise EngineDeadError(self._loop.death, retry_after_s=retry_after_s)
        if self._draining:
            raise self._shutdown()
        vocab_size = self.tokenizer.vocab_size
        for item in inputs:
            num_tokens = len(item.token_ids)
            if num_tokens > self.max_model_len:
                raise ContextLengthError(
                    f"This model's maximum context length is {self.max_model_len} tokens. However, your input contains "
                    f"{num_tokens} tokens. Please reduce the length of the input.",
                    param="input",
                )
            if num_tokens == 0 or min(item.token_ids) < 0 or max(item.token_ids) >= vocab_size:
                raise _no_input(item.token_ids, vocab_size)
        capacity = self.max_num_seqs + self._config.max_num_queued_reqs
        if len(self._open) >= capacity:
            raise QueueFullError(f"{capacity} requests run or wait", retry_after_s=retry_after_s)

    def _publish(self, outcomes: "list[tuple[int, list[Vector] | BackendError]]") -> None:
        """On the loop's thread: hand a step's outcomes to the event loop, in one call."""
        assert self._event_loop is not None
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody is left to read
            self._event_loop.call_soon_threadsafe(self._deliver, outcomes)

    def _deliver(self, outcomes: "list[tuple[int, list[Vector] | BackendError]]") -> None:
        for key, outcome in outcomes:
            future = self._open.get(key)
            if future is None or future.done():
                continue
            if isinstance(outcome, BackendError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _release(self, key: int) -> None:
        """The request has ended. If it has no outcome, its client is gone."""
        future = self._open.pop(key)
        if not future.done() or future.cancelled():
            self._loop.send(EmbeddingCancellation(key))
        if not self._open:
            self._idle.set()

    def _died(self) -> None:
        """On the loop's thread: fail what is still open, behind the outcomes that are on their way."""
        assert self._event_loop is not None
        error = EngineDeadError(self._loop.death or "", retry_after_s=self._config.retry_after_s)
        with contextlib.suppress(RuntimeError):
            self._event_loop.call_soon_threadsafe(self._fail_open, error)

    def _fail_open(self, error: UnavailableError) -> None:
        for key, future in self._open.items():
            if not future.done():
                self._loop.send(EmbeddingCancellation(key))
                future.set_exception(error)

    def _shutdown(self) -> DrainingError:
        return DrainingError("the server is shutting down", retry_after_s=self._config.retry_after_s)


def _no_input(token_ids: Sequence[int], vocab_size: int) -> InvalidRequestError:
    if not token_ids:
        return InvalidRequestError("an input has no tokens", param="input")
    wrong = next(token_id for token_id in token_ids if not 0 <= token_id < vocab_size)
    return InvalidRequestError(f"input has token id {wrong}; the vocabulary has {vocab_size}", param="input")
