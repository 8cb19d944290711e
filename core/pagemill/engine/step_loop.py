"""The one thread that owns the scheduler and the backend.

    while running:  take the inbox -> schedule -> execute -> commit -> publish

On a pipelined backend a turn launches its step, and then commits and publishes the step of the turn before: what the
host does for one step, the device spends on the next.

Requests, cancellations, prefixes to restore and the order to stop arrive in one inbox. All deltas of a turn leave in
one call of `publish`, which hands them to the event loop. When nothing is to be done, the thread sleeps on the inbox.
May not import backends or asyncio.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as ReadOnlySequence
from dataclasses import replace

from pagemill.backends.base import Backend, PipelinedBackend, StepInFlight
from pagemill.engine.constraint import Constraint
from pagemill.engine.messages import Cancellation, Message, Restoration, Submission
from pagemill.engine.progress import Progress
from pagemill.engine.scheduler import Scheduler
from pagemill.engine.sequence import Sequence
from pagemill.engine.sequence_output import SequenceOutput
from pagemill.engine.statistics import EngineStatistics, EngineStats
from pagemill.engine.step import StepPlan, StepResult
from pagemill.errors import BackendError, StructuredOutputError
from pagemill.generation import Delta, FinishReason, GenerationRequest, SamplingParams

logger = logging.getLogger(__name__)

MAX_SEED_PLUS_ONE = 2**63

Publish = Callable[[list[tuple[int, Delta]]], None]


class StepLoop:
    """See the module. `publish` is called on the loop's thread with (key, delta) pairs, and may not block or raise.
    When an error that is not the backend's ends the loop, `death` says which, and `died` is called once, after the last
    deltas: what is still in the inbox then will never be read.
    """

    def __init__(
        self,
        backend: Backend,
        scheduler: Scheduler,
        token_bytes: Callable[[SamplingParams], Callable[[int], bytes]],
        publish: Publish,
        died: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._pipeline = backend if isinstance(backend, PipelinedBackend) and backend.pipelined else None
        self._scheduler = scheduler
        self._token_bytes = token_bytes
        self._publish = publish
        self._died = died
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._statistics = EngineStatistics()
        self._outputs: dict[int, SequenceOutput] = {}  # by sequence id
        self._keys: dict[int, int] = {}  # request key by sequence id
        self._sequence_ids: dict[int, list[int]] = {}  # unfinished sequences by request key
        self._next_sequence_id = 0
        self._stopping = False
        self._in_flight: tuple[StepPlan, StepInFlight] | None = None  # on a pipelined backend
        self.death: str | None = None
        self._thread = threading.Thread(target=self._run, name="pagemill-step-loop", daemon=True)

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
            num_running=self._scheduler.num_running,
            num_waiting=self._scheduler.num_waiting + self._inbox.qsize(),
            num_preemptions=self._scheduler.num_preemptions,
            num_shifts=self._scheduler.num_shifts,
            kv=self._scheduler.kv_cache.stats(),
        )

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._take_inbox()
                if self._has_work:
                    self._turn()
        except Exception as error:  # whatever it is, every client must get an answer
            logger.exception("the step loop died")
            self.death = f"the engine stopped on an internal error: {error}"
            self._end_all(FinishReason.ERROR, self.death)
            self._died()
        finally:
            self._backend.close()

    @property
    def _has_work(self) -> bool:
        return self._scheduler.has_work or self._in_flight is not None

    def _take_inbox(self) -> None:
        """Take all messages; when there is nothing else to do, wait for one."""
        if not self._has_work:
            self._handle(self._inbox.get())
        while not self._inbox.empty():
            self._handle(self._inbox.get())

    def _handle(self, message: Message) -> None:
        if isinstance(message, Submission):
            self._submit(message)
        elif isinstance(message, Cancellation):
            for sequence_id in self._sequence_ids.pop(message.key, []):
                self._end(sequence_id, FinishReason.ABORT)
        elif isinstance(message, Restoration):
            self._restore(message)
        else:
            self._end_all(FinishReason.ABORT)
            self._stopping = True

    def _restore(self, restoration: Restoration) -> None:
        from pagemill.engine.prefix import restore_prefix

        done = restoration.done
        if not done.set_running_or_notify_cancel():
            return
        try:
            restore_prefix(self._backend, self._scheduler.kv_cache, restoration.token_ids, restoration.data)
        except Exception as error:  # whatever it is, it concerns this prefix only
            done.set_exception(error)
        else:
            done.set_result(None)

    def _submit(self, submission: Submission) -> None:
        request = submission.request
        token_bytes = self._token_bytes(request.sampling)
        sequence_ids = self._sequence_ids[submission.key] = []
        failed: list[tuple[int, str]] = []
        for choice_index in range(request.n):
            sequence_id, self._next_sequence_id = self._next_sequence_id, self._next_sequence_id + 1
            sampling = request.sampling
            if choice_index > 0 and sampling.seed is not None:
                sampling = replace(sampling, seed=(sampling.seed + choice_index) % MAX_SEED_PLUS_ONE)
            constraint = None
            try:
                constraint = self._constraint(request, sampling)
            except StructuredOutputError as error:  # it was checked, but another output has spoiled it since
                failed.append((sequence_id, str(error)))
            sequence = Sequence(
                sequence_id,
                request.request_id,
                request.prompt_token_ids,
                sampling,
                max_tokens=submission.room.max_tokens,
                window=submission.room.window,
                priority=request.priority,
                constraint=constraint,
            )
            self._outputs[sequence_id] = SequenceOutput(sequence, choice_index, token_bytes, submission.arrived_at)
            self._keys[sequence_id] = submission.key
            sequence_ids.append(sequence_id)
            self._scheduler.add(sequence)
        if failed:
            self._publish([(submission.key, self._end(number, FinishReason.ERROR, why)) for number, why in failed])

    def _constraint(self, request: GenerationRequest, sampling: SamplingParams) -> Constraint | None:
        if request.constraint is None:
            return None
        return Constraint(request.constraint.matcher(), sampling, self._scheduler.config.eos_token_ids)

    def _turn(self) -> None:
        """One step: schedule, execute, commit, publish."""
        plan = self._scheduler.schedule()
        if plan.started:
            self._note_started(plan)
        if self._pipeline is None:
            self._complete(plan, lambda: self._backend.execute(plan))
            return
        launched = (plan, self._pipeline.launch(plan)) if plan.chunks or plan.ended else None
        before, self._in_flight = self._in_flight, launched
        if before is not None:
            self._complete(before[0], before[1].result)

    def _complete(self, plan: StepPlan, result_of: Callable[[], StepResult]) -> None:
        """Take the step's result in and publish it; if the step failed, end its sequences."""
        try:
            result = result_of()
        except BackendError as error:
            logger.exception("step %d failed", plan.step_id)
            self._fail(plan, str(error))
            return
        deltas = self._advance(result, self._scheduler.commit(plan, result))
        if plan.chunks:
            self._statistics.iteration_tokens.observe(plan.num_tokens)
        if deltas:
            self._publish(deltas)

    def _note_started(self, plan: StepPlan) -> None:
        now = time.monotonic()
        for start in plan.started:
            output = self._outputs[start.sequence_id]
            output.scheduled(now)
            self._statistics.started(len(start.prompt_token_ids), output.sequence.num_cached)

    def _advance(self, result: StepResult, steps: ReadOnlySequence[Progress]) -> list[tuple[int, Delta]]:
        for prompt in result.prompt_logprobs:
            if prompt.sequence_id in self._outputs:  # else it ended while the step was in flight
                self._outputs[prompt.sequence_id].add_prompt_logprobs(prompt.start, prompt.entries)
        now = time.monotonic()
        statistics, outputs, keys = self._statistics, self._outputs, self._keys
        deltas = []
        for progress in steps:
            sequence_id = progress.sequence.sequence_id
            output = outputs[sequence_id]
            if output.last_token_at is None:
                statistics.time_to_first_token.observe(now - output.arrived_at)
            else:
                statistics.inter_token_latency.observe(now - output.last_token_at)
            delta = output.advance(progress, now)
            deltas.append((keys[sequence_id], delta))
            if delta.token_ids:
                statistics.generation_tokens += 1
            if delta.finish_reason is not None:
                self._scheduler.finish(progress.sequence, delta.finish_reason)
                self._forget(sequence_id, delta)
        return deltas

    def _fail(self, plan: StepPlan, error: str) -> None:
        """The backend could not run the plan: its sequences end, the others go on."""
        deltas = []
        for chunk in plan.chunks:
            key = self._keys.get(chunk.sequence_id)
            if key is None:  # it ended while the step was in flight
                continue
            delta = self._end(chunk.sequence_id, FinishReason.ERROR, error)
            deltas.append((key, delta))
        self._publish(deltas)

    def _end_all(self, reason: FinishReason, error: str | None = None) -> None:
        deltas = []
        for sequence_id, key in list(self._keys.items()):
            deltas.append((key, self._end(sequence_id, reason, error)))
        if deltas:
            self._publish(deltas)

    def _end(self, sequence_id: int, reason: FinishReason, error: str | None = None) -> Delta:
        """End a sequence from outside the scheduler. After an error its KV can't be trusted."""
        output = self._outputs[sequence_id]
        self._scheduler.finish(output.sequence, reason, forget=reason is FinishReason.ERROR)
        delta = output.end(reason, time.monotonic(), error)
        self._forget(sequence_id, delta)
        return delta

    def _forget(self, sequence_id: int, last: Delta) -> None:
        """The sequence has had its last delta."""
        del self._outputs[sequence_id]
        key = self._keys.pop(sequence_id)
        remaining = self._sequence_ids.get(key)
        if remaining is not None:
            remaining.remove(sequence_id)
            if not remaining:
                del self._sequence_ids[key]
        if last.finish_reason is not None and last.timings is not None:
            self._statistics.ended(last.finish_reason, last.usage, last.timings)
