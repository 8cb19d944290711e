"""`python -m pagemill_handlers.aws_lambda` as a process of its own, with real signals."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pagemill.store.references import DEMO_FOLDER
from support.fake_runtime_api import FakeRuntimeApi, fake_runtime_api
from support.lambda_runtime import HELLO, REPLY, event
from support.s3_server import Bucket, environment, s3_server
from support.served_process import clean_environment

FUNCTION = Path(__file__).parents[2] / "support/lambda_function.py"
MODULE = ("-m", "pagemill_handlers.aws_lambda")
STREAMED = {**HELLO, "stream": True}


@asynccontextmanager
async def bootstrap(
    api: FakeRuntimeApi | None, *program: str, **variables: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process; killed with the block if it still runs."""
    if api is not None:
        variables["AWS_LAMBDA_RUNTIME_API"] = api.address
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *program,
        env=clean_environment(**{"PAGEMILL_MODEL": "fake", **variables}),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_sigterm_in_mid_stream_lets_the_stream_end_and_the_exit_is_clean() -> None:
    async with (
        fake_runtime_api() as api,
        bootstrap(api, str(FUNCTION), "0.03", PAGEMILL_LAMBDA_SHUTDOWN_BUDGET_S="10") as process,
    ):
        invocation = api.invoke(event("function_url", STREAMED))
        await invocation.num_chunks(3)
        process.terminate()
        await invocation.end()
        _, log = await asyncio.wait_for(process.communicate(), 10)
    assert invocation.content.endswith(b"data: [DONE]\n\n")
    assert process.returncode == 0, log
    assert b"shutting down; 1 requests" in log


async def test_three_invocations_run_at_once_in_one_process_if_lambda_allows_it() -> None:
    async with (
        fake_runtime_api() as api,
        bootstrap(api, str(FUNCTION), "0.03", AWS_LAMBDA_MAX_CONCURRENCY="3") as process,
    ):
        invocations = [api.invoke(event("rest_api", STREAMED)) for _ in range(3)]
        await asyncio.gather(*(invocation.num_chunks(3) for invocation in invocations))
        assert not any(invocation.ended.is_set() for invocation in invocations)
        await asyncio.gather(*(invocation.end() for invocation in invocations))
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0
    assert all(invocation.content.endswith(b"data: [DONE]\n\n") for invocation in invocations)


async def test_the_module_buffers_if_it_is_told_to() -> None:
    async with (
        fake_runtime_api() as api,
        bootstrap(api, *MODULE, PAGEMILL_LAMBDA_MODE="buffered") as process,
    ):
        invocation = await api.invoke(event("load_balancer")).end()
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0
    assert json.loads(invocation.answer["body"])["choices"][0]["message"]["content"] == REPLY


async def test_grist_answers_through_the_streaming_runtime() -> None:
    pytest.importorskip("llama_cpp")
    question = {"messages": [{"role": "user", "content": "What is 7 + 5?"}], "temperature": 0, "stream": True}
    async with fake_runtime_api() as api, bootstrap(api, *MODULE, PAGEMILL_MODEL="grist") as process:
        invocation = await api.invoke(event("function_url", {"model": "grist", **question})).end(60)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0
    lines = [line.removeprefix("data: ") for line in invocation.content.decode().splitlines() if line]
    deltas = [json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines[:-1]]
    assert "".join(deltas) == "7 + 5 = 12"
    assert len(invocation.chunks) > 3


async def test_a_model_in_s3_is_fetched_into_memory() -> None:
    pytest.importorskip("llama_cpp")
    question = {"messages": [{"role": "user", "content": "What is 7 + 5?"}], "temperature": 0}
    with s3_server() as address:
        bucket = Bucket(*address)
        location = bucket.put("sums.gguf", (DEMO_FOLDER / "grist" / "grist-q8_0.gguf").read_bytes())
        variables = environment(bucket.endpoint) | {"PAGEMILL_MODEL": location, "PAGEMILL_DOWNLOAD_DIR": "memory"}
        async with fake_runtime_api() as api, bootstrap(api, *MODULE, **variables) as process:
            invocation = await api.invoke(event("function_url", {"model": "sums", **question})).end(60)
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 10) == 0
    assert json.loads(invocation.content)["choices"][0]["message"]["content"] == "7 + 5 = 12"


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"PAGEMILL_MODEL": "/no/such.gguf"}, "/no/such.gguf"),
        ({"PAGEMILL_MAX_NUM_SEQS": "many"}, "PAGEMILL_MAX_NUM_SEQS"),
        ({"PAGEMILL_LAMBDA_MODE": "fast"}, "PAGEMILL_LAMBDA_MODE"),
        ({"AWS_LAMBDA_MAX_CONCURRENCY": "0"}, "AWS_LAMBDA_MAX_CONCURRENCY"),
    ],
)
async def test_what_makes_serving_impossible_is_reported_as_an_init_error(
    variables: dict[str, str], reason: str
) -> None:
    async with fake_runtime_api() as api, bootstrap(api, *MODULE, **variables) as process:
        _, log = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    (error,) = api.init_errors
    assert reason in error["errorMessage"]
    assert reason in log.decode()


async def test_without_a_runtime_api_it_says_what_to_do() -> None:
    async with bootstrap(None, *MODULE, AWS_LAMBDA_RUNTIME_API="") as process:
        _, log = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert b"pagemill serve" in log


async def test_a_runtime_api_that_is_gone_ends_the_process() -> None:
    async with bootstrap(None, *MODULE, AWS_LAMBDA_RUNTIME_API="127.0.0.1:9") as process:
        _, log = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert b"the Runtime API is gone" in log
