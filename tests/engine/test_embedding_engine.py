"""The embedding engine: batches, fairness, limits, cancellation, failures; with an embedder that records its steps."""

import asyncio
import threading
from array import array
from collections.abc import AsyncIterator, Sequence

import pytest

from pagemill.backends.base import ModelInfo
from pagemill.backends.embedder import EmbeddingInput, EmbeddingTask, Vector
from pagemill.backends.fake import FakeTokenizer
from pagemill.backends.pair_format import SurroundedPairs
from pagemill.backends.surroundings import Surroundings
from pagemill.engine.embedding_engine import EmbeddingEngine
from pagemill.engine.engine import EngineConfig
from pagemill.errors import (
    BackendError,
    ContextLengthError,
    DrainingError,
    EngineDeadError,
    InvalidRequestError,
    QueueFullError,
    RequestTimeoutError,
    UnsupportedParameterError,
)


class RecordingEmbedder:
    """A text's vector is its length. Steps wait for `gate`."""

    task: EmbeddingTask = "embed"
    max_model_len = 50
    max_num_seqs = 4
    max_num_batched_tokens = 20

    def __init__(self) -> None:
        self.tokenizer = FakeTokenizer()
        self.info = ModelInfo(
            architecture="fake",
            num_parameters=0,
            quantization="F32",
            format="fake",
            size_bytes=0,
            memory_bytes=0,
            vocab_size=self.tokenizer.vocab_size,
            context_length=50,
            embedding_length=1,
        )
        self.surroundings = Surroundings((), ())
        self.prompt = ""
        self.pairs = SurroundedPairs(self.tokenizer, self.surroundings)
        self.steps: list[list[int]] = []  # lengths of the inputs
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.closed = False

    def embed(self, inputs: Sequence[EmbeddingInput]) -> list[Vector]:
        self.steps.append([len(item.token_ids) for item in inputs])
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return [memoryview(array("f", [len(item.token_ids)])) for item in inputs]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def embedder() -> RecordingEmbedder:
    return RecordingEmbedder()


@pytest.fixture
async def engine(embedder: RecordingEmbedder) -> AsyncIterator[EmbeddingEngine]:
    config = EngineConfig(max_num_queued_reqs=2, request_timeout_s=5)
    made = EmbeddingEngine(embedder, "fake", config)
    made.start()
    yield made
    embedder.gate.set()
    await made.close()
    assert embedder.closed


def texts(*lengths: int) -> list[EmbeddingInput]:
    return [EmbeddingInput((100,) * length) for length in lengths]


async def until(condition: object) -> None:
    for _ in range(2000):
        if condition():  # type: ignore[operator]
            return
        await asyncio.sleep(0.001)
    raise AssertionError("what was waited for did not happen")


async def test_vectors_come_in_the_order_of_the_inputs(engine: EmbeddingEngine) -> None:
    lengths = [3, 11, 1, 7, 20, 2, 50, 4]
    assert [vector[0] for vector in await engine.embed(texts(*lengths))] == lengths


async def test_steps_stay_within_their_limits_and_one_long_input_runs_alone(
    engine: EmbeddingEngine, embedder: RecordingEmbedder
) -> None:
    await engine.embed(texts(*[6] * 7, 50, *[1] * 9))
    assert all(len(step) <= 4 for step in embedder.steps)
    assert all(sum(step) <= 20 or len(step) == 1 for step in embedder.steps)


async def test_requests_that_wait_share_a_step(engine: EmbeddingEngine, embedder: RecordingEmbedder) -> None:
    embedder.gate.clear()
    first = asyncio.create_task(engine.embed(texts(1)))
    await until(lambda: embedder.steps)
    others = [asyncio.create_task(engine.embed(texts(2))) for _ in range(3)]
    await asyncio.sleep(0.02)
    embedder.gate.set()
    await asyncio.gather(first, *others)
    assert embedder.steps == [[1], [2, 2, 2]]


async def test_a_large_request_does_not_hold_up_a_small_one(
    engine: EmbeddingEngine, embedder: RecordingEmbedder
) -> None:
    embedder.gate.clear()
    large = asyncio.create_task(engine.embed(texts(*[5] * 400)))
    await until(lambda: embedder.steps)
    small = asyncio.create_task(engine.embed(texts(4)))
    await asyncio.sleep(0.02)
    embedder.gate.set()
    await asyncio.gather(small, large)
    assert next(index for index, step in enumerate(embedder.steps) if 4 in step) <= 2
    assert len(embedder.steps) >= 100


async def test_a_cancelled_request_is_not_embedded_further(
    engine: EmbeddingEngine, embedder: RecordingEmbedder
) -> None:
    embedder.gate.clear()
    task = asyncio.create_task(engine.embed(texts(*[5] * 400)))
    await until(lambda: embedder.steps)
    task.cancel()
    await asyncio.sleep(0.02)
    embedder.gate.set()
    assert [vector[0] for vector in await engine.embed(texts(7))] == [7]
    assert len(embedder.steps) <= 3
    assert engine.num_unfinished() == 0


async def test_what_can_never_run_is_refused(engine: EmbeddingEngine) -> None:
    with pytest.raises(ContextLengthError, match="50"):
        await engine.embed(texts(1, 51))
    with pytest.raises(InvalidRequestError, match="no tokens"):
        await engine.embed(texts(0))
    with pytest.raises(InvalidRequestError, match="-1"):
        await engine.embed([EmbeddingInput((-1,))])
    with pytest.raises(UnsupportedParameterError, match='"fake" does not support generate'):
        engine.generate(None)  # type: ignore[arg-type]
    assert await engine.embed([]) == []


async def test_requests_beyond_the_queue_are_refused(engine: EmbeddingEngine, embedder: RecordingEmbedder) -> None:
    embedder.gate.clear()
    tasks = [asyncio.create_task(engine.embed(texts(1))) for _ in range(6)]
    await asyncio.sleep(0.02)
    with pytest.raises(QueueFullError):
        await engine.embed(texts(1))
    embedder.gate.set()
    await asyncio.gather(*tasks)


async def test_a_failed_step_fails_its_requests_and_no_others(
    engine: EmbeddingEngine, embedder: RecordingEmbedder
) -> None:
    embedder.error = BackendError("broken")
    with pytest.raises(BackendError, match="broken"):
        await engine.embed(texts(1))
    embedder.error = None
    assert [vector[0] for vector in await engine.embed(texts(2))] == [2]


async def test_an_unforeseen_error_ends_the_engine_with_an_answer_for_all(
    engine: EmbeddingEngine, embedder: RecordingEmbedder
) -> None:
    embedder.error = ZeroDivisionError("oops")
    with pytest.raises(EngineDeadError, match="oops"):
        await engine.embed(texts(1))
    assert not engine.alive
    with pytest.raises(EngineDeadError):
        await engine.embed(texts(1))


async def test_a_request_that_takes_too_long_is_told_so(embedder: RecordingEmbedder) -> None:
    engine = EmbeddingEngine(embedder, "fake", EngineConfig(request_timeout_s=0.05))
    engine.start()
    embedder.gate.clear()
    with pytest.raises(RequestTimeoutError):
        await engine.embed(texts(1))
    embedder.gate.set()
    await engine.close()


async def test_draining_lets_open_requests_end_and_refuses_new_ones(
    engine: EmbeddingEngine, embedder: RecordingEmbedder
) -> None:
    embedder.gate.clear()
    task = asyncio.create_task(engine.embed(texts(1)))
    await until(lambda: embedder.steps)
    draining = asyncio.create_task(engine.drain(5))
    await asyncio.sleep(0.01)
    with pytest.raises(DrainingError):
        await engine.embed(texts(1))
    embedder.gate.set()
    await draining
    assert len(await task) == 1


async def test_statistics_count_tokens_and_requests(engine: EmbeddingEngine) -> None:
    await engine.embed(texts(3, 4))
    await engine.embed(texts(5))
    stats = engine.stats()
    assert stats.prompt_tokens == 12
    assert stats.num_running == 0
    assert stats.num_waiting == 0
