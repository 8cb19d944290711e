"""The runtime as a whole: its pollers, the one engine that they share, its beginning and its end."""

import asyncio
import json
import sys
from collections import Counter

import pytest

from pagemill.backends.fake import FakeBackend
from pagemill.errors import ModelLoadError, SettingsError
from pagemill_handlers.aws_lambda.runtime_api import RuntimeApiError
from support.fake_runtime_api import FakeRuntimeApi
from support.lambda_runtime import HELLO, REPLY, event, running_runtime

STREAMED = {**HELLO, "stream": True}


async def until_polling(api: FakeRuntimeApi, count: int) -> None:
    async with asyncio.timeout(10):
        while api.num_polling < count:  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.002)


async def test_concurrent_invocations_share_one_model_and_one_batch() -> None:
    async with running_runtime(FakeBackend(step_delay_s=0.01), num_pollers=3) as running:
        await until_polling(running.api, 3)
        invocations = [running.api.invoke(event("function_url", STREAMED)) for _ in range(3)]
        await asyncio.gather(*(invocation.num_chunks(3) for invocation in invocations))
        together = running.engine.stats()
        await asyncio.gather(*(invocation.end() for invocation in invocations))
        stats = running.engine.stats()
        assert len(running.engines) == 1
    assert together.num_running == 3
    num_steps = sum(stats.histograms["iteration_tokens_total"].counts)
    assert stats.generation_tokens >= 3 * len(REPLY)
    assert num_steps < 1.5 * (len(REPLY) + 1), "each took its own steps"
    assert Counter(stats.finished)["stop"] == 3


async def test_no_more_is_polled_than_may_run_at_once() -> None:
    async with running_runtime(num_pollers=2) as running:
        await until_polling(running.api, 2)
        for _ in range(5):
            await running.api.invoke(event("function_url", HELLO)).end()
        assert running.api.max_polling == 2


@pytest.mark.parametrize("mode", ["streamed", "buffered"])
async def test_the_invocation_id_is_echoed_in_answers_and_errors_if_there_is_one(mode: str) -> None:
    async with running_runtime(own={"mode": mode}) as running:
        answered = await running.api.invoke(event("function_url", HELLO), invocation_id="inv-1").end()
        failed = await running.api.invoke({}, invocation_id="inv-2").end()
        without = await running.api.invoke(event("function_url", HELLO)).end()
    assert answered.headers["lambda-runtime-invocation-id"] == "inv-1"
    assert failed.headers["lambda-runtime-invocation-id"] == "inv-2"
    assert "lambda-runtime-invocation-id" not in without.headers


async def test_init_is_over_before_the_model_is_loaded_and_the_first_request_waits_for_it() -> None:
    gate = asyncio.Event()

    async def loading() -> None:
        await gate.wait()

    async with running_runtime(before_load=loading) as running:
        await until_polling(running.api, 1)
        assert running.engines == []
        invocation = running.api.invoke(event("function_url", HELLO))
        with pytest.raises(TimeoutError):
            await invocation.end(0.1)
        gate.set()
        await invocation.end()
    assert invocation.prelude["statusCode"] == 200


async def test_init_waits_for_the_model_if_it_is_told_to_but_not_for_ever() -> None:
    gate = asyncio.Event()

    async def loading() -> None:
        await gate.wait()

    async with running_runtime(before_load=loading, own={"init_wait_s": 30}) as running:
        async with asyncio.timeout(5):
            while not running.api.registrations:  # noqa: ASYNC110 - what is waited for has no event of its own
                await asyncio.sleep(0.002)
        await asyncio.sleep(0.05)
        assert running.api.max_polling == 0
        gate.set()
        await until_polling(running.api, 1)
        assert len(running.engines) == 1
    gate.clear()
    async with running_runtime(before_load=loading, own={"init_wait_s": 0.05}) as running:
        await until_polling(running.api, 1)
        assert running.engines == []
        gate.set()


async def test_a_load_that_fails_while_init_waits_is_told_to_the_first_request() -> None:
    async def loading() -> None:
        raise ModelLoadError("the file is cut off")

    async with running_runtime(before_load=loading, own={"init_wait_s": 30}) as running:
        invocation = await running.api.invoke(event("function_url", HELLO)).end()
    assert invocation.prelude["statusCode"] == 500


async def test_buffering_without_mangum_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mangum", None)
    monkeypatch.delitem(sys.modules, "pagemill_handlers.aws_lambda.buffered", raising=False)

    async def serve() -> None:
        async with running_runtime(own={"mode": "buffered"}) as running:
            await asyncio.wait((running.task,))

    with pytest.raises(SettingsError, match=r"pagemill\[aws\]"):
        await serve()


async def test_a_model_that_cannot_be_loaded_is_an_error_that_the_client_sees() -> None:
    async def loading() -> None:
        raise ModelLoadError("the file is cut off")

    async with running_runtime(before_load=loading) as running:
        invocation = await running.api.invoke(event("function_url", HELLO)).end()
    assert invocation.prelude["statusCode"] == 500
    assert json.loads(invocation.content)["error"]["message"] == "the file is cut off"


async def test_the_internal_extension_registers_before_the_first_poll_and_waits() -> None:
    async with running_runtime() as running:
        await until_polling(running.api, 1)
        assert len(running.api.registrations) == 1
        async with asyncio.timeout(5):
            while not running.api.extension_waits:  # noqa: ASYNC110 - what is waited for has no event of its own
                await asyncio.sleep(0.002)
    (headers, body), *_ = running.api.registrations
    assert headers["lambda-extension-name"] == "pagemill"
    assert json.loads(body) == {"events": []}
    assert running.api.extension_waits == ["extension-1"]


async def test_stopping_lets_a_stream_end_that_ends_within_the_budget() -> None:
    async with running_runtime(FakeBackend(step_delay_s=0.005), own={"shutdown_budget_s": 5}) as running:
        invocation = running.api.invoke(event("function_url", STREAMED))
        await invocation.num_chunks(5)
        running.runtime.stop()
        await invocation.end()
        async with asyncio.timeout(3):
            await asyncio.wait((running.task,))
    assert b"[DONE]" in invocation.content
    assert running.backend.closed


async def test_stopping_aborts_what_outlasts_the_budget_with_an_error_in_the_stream() -> None:
    endless = FakeBackend(reply=lambda prompt: [*b"word " * 700], step_delay_s=0.01)
    async with running_runtime(endless, own={"shutdown_budget_s": 1.5}) as running:
        loop = asyncio.get_running_loop()
        invocation = running.api.invoke(event("function_url", STREAMED))
        await invocation.num_chunks(5)
        start = loop.time()
        running.runtime.stop()
        await invocation.end()
        await asyncio.wait((running.task,))
        took_s = loop.time() - start
    assert "shutting down" in invocation.content.decode()
    assert took_s < 1.5
    assert endless.closed


async def test_a_runtime_without_work_stops_at_once() -> None:
    async with running_runtime(num_pollers=3) as running:
        await until_polling(running.api, 3)
        running.runtime.stop()
        async with asyncio.timeout(2):
            await asyncio.wait((running.task,))


async def test_an_extension_that_is_refused_costs_only_the_drain(caplog: pytest.LogCaptureFixture) -> None:
    async with running_runtime(register_status=403) as running:
        invocation = await running.api.invoke(event("function_url", HELLO)).end()
    assert invocation.prelude["statusCode"] == 200
    assert running.api.extension_waits == []
    assert "no extension" in caplog.text


async def test_an_answer_that_lambda_refuses_is_logged_and_the_next_is_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_runtime() as running:
        running.api.respond_status = 400
        await running.api.invoke(event("function_url", HELLO)).end()
        running.api.respond_status = 202
        invocation = await running.api.invoke(event("function_url", HELLO)).end()
    assert invocation.prelude["statusCode"] == 200
    assert "refused the stream of request-1: status 400" in caplog.text


async def test_a_runtime_api_that_fails_ends_the_process() -> None:
    async def fail_one() -> None:
        async with running_runtime() as running:
            running.api.respond_status = 500
            await running.api.invoke(event("function_url", HELLO)).end()
            async with asyncio.timeout(5):
                await asyncio.wait((running.task,))

    with pytest.raises(RuntimeApiError, match="status 500"):
        await fail_one()
