"""The one thread that owns an embedder and the queue before it: take the inbox, embed a batch, publish what is done.

What has come while a step ran goes into the next one. May not import backends or asyncio.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pagemill.engine.embedding_queue import EmbeddingQueue, EmbeddingWork
from pagemill.engine.kv_cache import KVCacheStats
from pagemill.engine.statistics import EngineStatistics, EngineStats
from pagemill.errors import BackendError
from pagemill.generation import FinishReason, Timings, Usage

if TYPE_CHECKING:
    from pagemill.backends.embedder import Embedder, EmbeddingInput, Vector

logger = logging.getLogger(__name__)

NO_KV = KVCacheStats(0, 0, 0, 0, 0)


class EmbeddingSubmission(NamedTuple):
    """A request on its way in. `key` names it in what is published."""

    key: int
    inputs: "Sequence[EmbeddingInput]"
    arrived_at: float  # time.monotonic()


class EmbeddingCancellation(NamedTuple):
    """The request's client is gone: what no step has taken is not embedded, and nothing is published."""

    key: int


class Stop:
    """End what waits, close the embedder, end the thread."""

    __slots__ = ()


Message = EmbeddingSubmission | EmbeddingCancellation | Stop


class EmbeddingLoop:
    """See the module. `publish` is called on the loop's thread, and may not block or raise: of each request the
    vectors, in the order of its inputs, or why there are none. When an error that is not the embedder's ends the loop,
    `death` says which, and `died` is called once: what is open then, or in the inbox, has no outcome.
    """

    def __init__(
        self,
        embedder: "Embedder",
        publish: "Callable[[list[tuple[int, list[Vector] | BackendError]]], None]",
        died: Callable[[], None],
    ) -> None:
        self._embedder = embedder
        self._publish = publish
        self._died = died
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._queue = EmbeddingQueue(
            max_num_seqs=embedder.max_num_seqs, max_num_batched_tokens=embedder.max_num_batched_tokens
        )
        self._open: dict[int, EmbeddingWork] = {}  # unfinished requests by key
        self._statistics = EngineStatistics()
        self._num_running = 0  # inputs in the step
        self._stopping = False
        self.death: str | None = None
        self._thread = threading.Thread(target=self._run, name="pagemill-embedding-loop", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, message: Message) -> None:
        """From any thread."""
        self._inbox.put(message)

    def join(self) -> None:
        """Wait until the thread has ended; after `Stop`."""
        if self._thread.ident is not None:
            self._thread.join()

    def stats(self) -> EngineStats:
        """From any thread; may be a step old."""
        return self._statistics.snapshot(
            num_running=self._num_running,
            num_waiting=sum(work.num_left for work in list(self._open.values())) + self._inbox.qsize(),
            num_preemptions=0,
            num_shifts=0,
            kv=NO_KV,
        )

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._take_inbox()
                if len(self._queue):
                    self._step()
        except Exception as error:  # whatever it is, every client must get an answer
            logger.exception("the embedding loop died")
            self.death = f"the engine stopped on an internal error: {error}"
            self._died()
        finally:
            self._embedder.close()

    def _take_inbox(self) -> None:
        """Take all messages; when there is nothing else to do, wait for one."""
        if not len(self._queue):
            self._handle(self._inbox.get())
        while not self._inbox.empty():
            self._handle(self._inbox.get())

    def _handle(self, message: Message) -> None:
        if isinstance(message, EmbeddingSubmission):
            work = self._open[message.key] = EmbeddingWork(message.key, message.inputs, message.arrived_at)
            self._queue.add(work)
        elif isinstance(message, EmbeddingCancellation):
            cancelled = self._open.get(message.key)
            if cancelled is not None:
                self._end(cancelled, FinishReason.ABORT)
        else:
            for left in list(self._open.values()):
                self._end(left, FinishReason.ABORT)
            self._stopping = True

    def _step(self) -> None:
        """Embed one batch, and publish the requests that are finished by it, or failed."""
        batch = self._queue.next_batch()
        now = time.monotonic()
        for work, _ in batch:
            work.started_at = work.started_at or now
        inputs = [work.inputs[index] for work, index in batch]
        self._num_running = len(batch)
        try:
            vectors = self._embedder.embed(inputs)
        except BackendError as error:
            logger.exception("a step of %d inputs failed", len(batch))
            self._fail(batch, error)
            return
        finally:
            self._num_running = 0
        num_tokens = sum(len(item.token_ids) for item in inputs)
        self._statistics.iteration_tokens.observe(num_tokens)
        self._statistics.prompt_tokens += num_tokens
        for (work, index), vector in zip(batch, vectors, strict=True):
            work.vectors[index] = vector
        finished = [work for work in dict.fromkeys(work for work, _ in batch) if work.is_finished]
        for work in finished:
            self._end(work, FinishReason.STOP)
        if finished:
            self._publish([(work.key, [work.vectors[i] for i in range(len(work.inputs))]) for work in finished])

    def _fail(self, batch: list[tuple[EmbeddingWork, int]], error: BackendError) -> None:
        failed = list(dict.fromkeys(work for work, _ in batch))
        for work in failed:
            self._end(work, FinishReason.ERROR)
        self._publish([(work.key, error) for work in failed])

    def _end(self, work: EmbeddingWork, reason: FinishReason) -> None:
        """The request has ended, finished or not."""
        self._queue.discard(work)
        del self._open[work.key]
        now = time.monotonic()
        started_at = work.started_at or now
        timings = Timings(started_at - work.arrived_at, now - started_at, 0.0)
        self._statistics.ended(reason, Usage(work.num_tokens, 0, 0), timings)
