"""A worker's handler, in the test's own event loop: jobs in, pieces out, through the whole app on the fake backend."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pagemill.backends.fake import FakeBackend
from pagemill.engine.engine import Engine
from pagemill.settings import Settings
from pagemill_handlers.runpod_queue.worker import QueueWorker
from support.hand_driven_loader import until
from support.lambda_runtime import REPLY, fake_app

CHAT = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0}
TEXT = {"prompt": "hello", "temperature": 0, "max_tokens": 100}


@dataclass
class Worker:
    handler: QueueWorker
    engines: list[Engine]

    async def outputs(self, job_input: Any) -> list[Any]:
        return [output async for output in self.handler.handle({"id": "job-7", "input": job_input})]

    async def loaded(self) -> Engine:
        self.handler.max_concurrency(1)
        await until(lambda: bool(self.engines))
        return self.engines[0]


@asynccontextmanager
async def worker(backend: FakeBackend | None = None, **settings: Any) -> AsyncIterator[Worker]:
    """One whose app ends as it does under RunPod's package: cancelled with the event loop."""
    before = asyncio.all_tasks()
    app, pool, engines = fake_app(backend or FakeBackend(), **settings)
    try:
        yield Worker(QueueWorker(app, pool, Settings(model="fake", **settings)), engines)
    finally:
        lives = [task for task in asyncio.all_tasks() - before if task.get_name() == "app"]
        for task in lives:
            task.cancel()
        if lives:
            await asyncio.wait(lives)
        assert pool.loaded() == []


def openai(route: str, body: Any = None) -> dict[str, Any]:
    return {"openai_route": route, "openai_input": body}


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


async def test_a_chat_is_one_object() -> None:
    async with worker() as running:
        for job_input in (CHAT, openai("/v1/chat/completions", CHAT)):
            [answer] = await running.outputs(job_input)
            assert answer["choices"][0]["message"]["content"] == REPLY
            assert answer["id"] == "chatcmpl-job-7"


async def test_a_body_with_a_prompt_is_a_text() -> None:
    async with worker() as running:
        [answer] = await running.outputs(TEXT)
        assert answer["choices"][0]["text"] == REPLY


async def test_the_models_are_listed() -> None:
    async with worker() as running:
        [answer] = await running.outputs(openai("/v1/models"))
        assert [model["id"] for model in answer["data"]] == ["fake"]


async def test_a_stream_by_the_gateway_is_server_sent_events_as_text() -> None:
    async with worker() as running:
        pieces = await running.outputs(openai("/v1/chat/completions", {**CHAT, "stream": True}))
    events = "".join(pieces).split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert text_of([json.loads(event.removeprefix("data: ")) for event in events[:-2]]) == REPLY


async def test_a_stream_of_a_plain_body_is_lists_of_chunks() -> None:
    async with worker(FakeBackend(step_delay_s=0.005)) as running:
        pieces = await running.outputs({**CHAT, "stream": True})
    assert len(pieces) > 5
    assert text_of([chunk for piece in pieces for chunk in piece]) == REPLY


async def test_what_came_while_a_piece_was_sent_goes_in_one() -> None:
    pieces = []
    async with worker(FakeBackend(step_delay_s=0.002)) as running:
        async for piece in running.handler.handle({"id": "1", "input": {**CHAT, "stream": True}}):
            pieces.append(piece)
            await asyncio.sleep(0.05)  # what a POST to RunPod takes
    assert text_of([chunk for piece in pieces for chunk in piece]) == REPLY
    assert max(map(len, pieces)) >= 5


@pytest.mark.parametrize(
    ("job_input", "named"),
    [
        ("hello", "input"),
        (None, "input"),
        ({}, "messages"),
        ({**CHAT, "temperature": "hot"}, "temperature"),
        ({**CHAT, "sampling_params": {}}, "sampling_params"),
        (openai("/metrics"), "openai_route"),
        (openai("/v1/nowhere", CHAT), "/v1/nowhere"),
        ({"openai_route": 7}, "openai_route"),
        (openai("/v1/chat/completions", "hello"), "openai_input"),
        (openai("/v1/chat/completions", {"model": "other", **CHAT}), "other"),
    ],
)
async def test_a_wrong_job_fails_with_the_dialects_error_as_text(job_input: Any, named: str) -> None:
    async with worker() as running:
        [failure] = await running.outputs(job_input)
    assert list(failure) == ["error"]
    error = json.loads(failure["error"])
    assert named in f"{error['message']} {error['param']}"
    assert error["type"]


@pytest.mark.parametrize("raw", [True, False])
async def test_a_stream_that_breaks_says_so_in_its_last_piece(raw: bool) -> None:
    class DyingBackend(FakeBackend):
        num_steps_left = 5

        def execute(self, plan: Any) -> Any:
            if not self.num_steps_left:
                raise RuntimeError("the GPU fell off the bus")
            self.num_steps_left -= 1
            return super().execute(plan)

    body = {**CHAT, "stream": True}
    async with worker(DyingBackend()) as running:
        pieces = await running.outputs(openai("/v1/chat/completions", body) if raw else body)
    if raw:
        assert '"error"' in pieces[-1]
    else:
        assert json.loads(pieces[-1]["error"])["message"]
        assert [piece for piece in pieces[:-1] if not isinstance(piece, list)] == []


@pytest.mark.parametrize("stream", [True, False])
async def test_a_job_that_is_stopped_frees_its_place(stream: bool) -> None:
    async with worker(FakeBackend(step_delay_s=0.05)) as running:
        engine = await running.loaded()
        task = asyncio.create_task(running.outputs({**CHAT, "stream": stream}))
        await until(lambda: engine.num_unfinished() == 1)
        task.cancel()
        await asyncio.wait([task])
        async with asyncio.timeout(1):  # the whole answer takes 2 s
            await until(lambda: engine.num_unfinished() == 0)


async def test_concurrency_is_the_engines_as_soon_as_there_is_one() -> None:
    async with worker(FakeBackend(max_num_seqs=6)) as running:
        assert running.handler.max_concurrency(1) == 1
        await running.loaded()
        await asyncio.sleep(0.01)
        assert running.handler.max_concurrency(1) == 6
    async with worker(FakeBackend(max_num_seqs=6), max_num_seqs=6) as running:
        assert running.handler.max_concurrency(1) == 6


async def test_jobs_at_once_share_the_engine() -> None:
    async with worker(FakeBackend(step_delay_s=0.005)) as running:
        engine = await running.loaded()
        tasks = [asyncio.create_task(running.outputs(CHAT)) for _ in range(3)]
        await until(lambda: engine.num_unfinished() == 3)
        answers = [answer for [answer] in await asyncio.gather(*tasks)]
    assert [answer["choices"][0]["message"]["content"] for answer in answers] == [REPLY] * 3


def test_runpod_takes_the_handler_for_a_generator() -> None:
    assert inspect.isasyncgenfunction(QueueWorker.handle)
