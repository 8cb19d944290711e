"""Servers started with what targets put into their environment: the demo model on this machine instead of theirs."""

import time
from typing import Any

import httpx
import pytest

from support.served_process import served_process
from support.targets import KEY, Target, cloud_run, kubernetes

pytestmark = pytest.mark.slow
ON_CPUS = [cloud_run("cpu"), kubernetes("cpu"), kubernetes("knative")]
CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


@pytest.mark.parametrize("target", ON_CPUS, ids=lambda target: target.name)
def test_a_server_as_the_target_starts_it_answers_probes_and_whoever_has_a_key(target: Target) -> None:
    arguments = ("--host", "127.0.0.1", "--port", "0")  # not on this machine's network, nor on a port that may be taken
    variables: dict[str, Any] = dict(target.environment)
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
