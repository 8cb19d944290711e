"""Processes started with what targets put into their environment: the demo model, on this machine instead of theirs."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.fake_runtime_api import fake_runtime_api
from support.lambda_runtime import event
from support.served_process import clean_environment, served_process
from support.targets import KEY, LAMBDAS, Target, aws_function, cloud_run, kubernetes

pytestmark = pytest.mark.slow
ON_CPUS = [cloud_run("cpu"), kubernetes("cpu"), kubernetes("knative")]
CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


@pytest.mark.parametrize("target", ON_CPUS, ids=lambda target: target.name)
def test_a_server_as_the_target_starts_it_answers_probes_and_whoever_has_a_key(target: Target, tmp_path: Path) -> None:
    arguments = ("--host", "127.0.0.1", "--port", "0")  # not on this machine's network, nor on a port that may be taken
    variables: dict[str, Any] = dict(target.environment)
    if "PAGEMILL_API_KEY_FILE" in variables:
        keys = tmp_path / "api-keys"
        keys.touch(mode=0o440)
        keys.write_text(KEY)
        variables["PAGEMILL_API_KEY_FILE"] = str(keys)
    with served_process(*arguments, step_delay_s=None, **variables) as served:
        with httpx.Client(base_url=served.address) as client:
            probed = {client.get(probe["httpGet"]["path"]).status_code for probe in target.probes}
            without_key = statuses(client)
            client.headers["authorization"] = f"Bearer {KEY}"
            with_key = statuses(client)
        asked_to_end = time.monotonic()
        served.process.terminate()
        code = served.wait()
    assert (probed, without_key, with_key, code) == ({200}, {401}, {200}, 0)
    assert target.grace_s is not None
    assert time.monotonic() - asked_to_end < target.grace_s


def statuses(client: httpx.Client) -> set[int]:
    return {client.get("/metrics").status_code, client.post("/v1/chat/completions", json=CHAT).status_code}


@pytest.mark.parametrize("folder", LAMBDAS)
async def test_a_function_as_its_template_starts_it_streams_all_that_lambda_sends_at_once(
    folder: str,
) -> None:
    target = aws_function(folder)
    num_at_once = target.concurrency or 1
    async with fake_runtime_api() as api:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pagemill_handlers.aws_lambda",
            env=clean_environment(
                **target.environment,
                AWS_LAMBDA_RUNTIME_API=api.address,
                AWS_LAMBDA_MAX_CONCURRENCY=str(num_at_once),
            ),
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            invocations = [api.invoke(event("function_url", {**CHAT, "stream": True})) for _ in range(num_at_once)]
            for invocation in invocations:
                await invocation.end()
        finally:
            process.kill()
            await process.communicate()
    assert all(invocation.content.endswith(b"data: [DONE]\n\n") for invocation in invocations)
