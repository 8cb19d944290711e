"""The engine's asynchronous face: requests in, streams of deltas out.

`Engine` lives on one event loop and owns the open streams; scheduler and backend belong to the step loop's thread, to
which it talks by messages only. May not import backends.
"""

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from pagemill.engine.messages import Cancellation, Restoration, Stop, Submission
from pagemill.engine.request_checks import OutputRoom, check_a_token_is_left, check_token_ids, output_room
from pagemill.engine.request_stream import RequestStream
from pagemill.engine.scheduler import Scheduler, SchedulerConfig
from pagemill.engine.statistics import EngineStats
from pagemill.engine.step_loop import StepLoop
from pagemill.engine.token_text import TokenText
from pagemill.errors import DrainingError, EngineDeadError, QueueFullError
from pagemill.generation import Delta, GenerationRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagemill.backends.base import Backend, ModelInfo, Tokenizer

logger = logging.getLogger(__name__)


class EngineConfig(NamedTuple):
    """Limits that are the engine's own; those of the step are the backend's."""

    max_num_queued_reqs: int = 512
    enable_prefix_caching: bool = True
    request_timeout_s: float = 0.0  # 0: none
    retry_after_s: int = 1
    max_shifted_contexts: int = 10  # what an output that shifts may be, in lengths of its context


class Engine:
    """One loaded model, generating for many clients at once.

    `start` must be called on the event loop that will call everything else. A request takes as many places as it has
    sequences (n): `max_num_seqs` of them run, `max_num_queued_reqs` wait, the rest are refused.
    """

    def __init__(self, backend: "Backend", config: EngineConfig | None = None) -> None:
        self._backend = backend
        self._config = config or EngineConfig()
        self._token_text = TokenText(backend.tokenizer)
        self._streams: dict[int, RequestStream] = {}  # open ones, by key
        self._num_sequences = 0  # theirs, together
        self._next_key = 0
        self._draining = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop: asyncio.AbstractEventLoop | None = None
        scheduler = Scheduler(
            backend.new_kv_cache(enable_prefix_caching=self._config.enable_prefix_caching),
            SchedulerConfig(
                max_num_seqs=backend.max_num_seqs,
                max_num_batched_tokens=backend.max_num_batched_tokens,
                eos_token_ids=backend.tokenizer.eos_token_ids,
            ),
        )
        self._kv_cache = scheduler.kv_cache
        self._step_loop = StepLoop(backend, scheduler, self._token_text.lookup, self._publish, self._died)

    @property
    def info(self) -> "ModelInfo":
        return self._backend.info

    @property
    def tokenizer(self) -> "Tokenizer":
        return self._backend.tokenizer

    @property
    def max_model_len(self) -> int:
        """Longest sequence, prompt and output, in tokens."""
        return self._backend.max_model_len

    @property
    def max_num_seqs(self) -> int:
        """Most sequences that run at once."""
        return self._backend.max_num_seqs

    @property
    def alive(self) -> bool:
        """Whether the step loop runs: False after a failure that only a new process mends."""
        return self._step_loop.death is None

    def num_unfinished(self) -> int:
        """Requests that were accepted and have not ended."""
        return len(self._streams)

    def start(self) -> None:
        """Start the step loop's thread."""
        self._loop = asyncio.get_running_loop()
        self._step_loop.start()

    def kv_identity(self) -> "Mapping[str, str | int]":
        """What saved KV must agree in to be restored here; see `Backend.kv_identity`."""
        return self._backend.kv_identity()

    async def restore(self, token_ids: tuple[int, ...], data: memoryview) -> None:
        """Put the saved KV of a prefix into the cache; `start` comes before it. `data` is used until this returns, or
        the engine is closed.

        Raises:
            ModelLoadError: there is no room for so many tokens; gives the numbers.
            BackendError: the backend can't take the data.
        """
        from concurrent.futures import Future

        done: Future[None] = Future()
        self._step_loop.send(Restoration(token_ids, data, done))
        await asyncio.wrap_future(done)

    def generate(self, request: GenerationRequest) -> "RequestStream":
        """Accept a request and return the stream of its deltas. Close the stream in any case (it is a context manager).

        Raises:
            ContextLengthError: the prompt leaves no room for a token.
            InvalidRequestError: a token id is not in the vocabulary.
            QueueFullError, DrainingError, EngineDeadError: not now, or not any more.
        """
        room = self._check(request)
        key, self._next_key = self._next_key, self._next_key + 1
        stream = RequestStream(self, key, request.n, self._config.request_timeout_s)
        self._streams[key] = stream
        self._num_sequences += request.n
        self._idle.clear()
        self._step_loop.send(Submission(key, request, room, time.monotonic()))
        return stream

    def stats(self) -> EngineStats:
        """The engine at this moment, at most a step old."""
        return self._step_loop.stats()

    async def drain(self, timeout_s: float) -> None:
        """Refuse new requests, let the open ones end, abort what is left at the timeout."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        if self._streams:
            logger.warning("aborting %d requests that did not end within %g s", len(self._streams), timeout_s)
        for stream in list(self._streams.values()):
            stream.fail(DrainingError("the server is shutting down", retry_after_s=self._config.retry_after_s))

    async def close(self) -> None:
        """End what runs, stop the thread, free the model. Idempotent."""
        self._draining = True
        if self._closed:
            return
        self._closed = True
        if self._loop is None:
            self._backend.close()
            return
        self._step_loop.send(Stop())
        await asyncio.to_thread(self._step_loop.join)

    def cancel(self, key: int) -> None:
        """The stream's client is gone. For `RequestStream`."""
        if self._release(key):
            self._step_loop.send(Cancellation(key))

    def _check(self, request: GenerationRequest) -> OutputRoom:
        """Refuse what can't run now or ever. Returns what each of its sequences may get."""
        retry_after_s = self._config.retry_after_s
        if self._step_loop.death is not None:
            raise EngineDeadError(self._step_loop.death, retry_after_s=retry_after_s)
        if self._draining:
            raise DrainingError("the server is shutting down", retry_after_s=retry_after_s)
        check_token_ids(request, self.tokenizer.vocab_size)
        check_a_token_is_left(request, self.tokenizer.eos_token_ids)
        most = self._config.max_shifted_contexts
        room = output_room(request, self.max_model_len, self._kv_cache, max_shifted_contexts=most)
        capacity = self.max_num_seqs + self._config.max_num_queued_reqs
        if self._streams and self._num_sequences + request.n > capacity:
            raise QueueFullError(
                f"{self._num_sequences} sequences run or wait; with n={request.n} more there would be over {capacity}",
                retry_after_s=retry_after_s,
            )
        return room

    def _publish(self, deltas: list[tuple[int, Delta]]) -> None:
        """On the step loop's thread: hand a turn's deltas to the event loop, in one call."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody is left to read
            self._loop.call_soon_threadsafe(self._deliver, deltas)

    def _deliver(self, deltas: list[tuple[int, Delta]]) -> None:
        streams = self._streams
        for key, delta in deltas:
            stream = streams.get(key)
            if stream is not None and stream.push(delta):
                self._release(key)

    def _release(self, key: int) -> bool:
        """A stream has ended. False if it had before."""
        stream = self._streams.pop(key, None)
        if stream is None:
            return False
        self._num_sequences -= stream.n
        if not self._streams:
            self._idle.set()
        return True

    def _died(self) -> None:
        """On the step loop's thread: fail what is still open, behind the deltas that are on their way."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._fail_open)

    def _fail_open(self) -> None:
        error = EngineDeadError(self._step_loop.death or "", retry_after_s=self._config.retry_after_s)
        for stream in list(self._streams.values()):
            stream.fail(error)
