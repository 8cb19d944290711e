"""Replicas on a Ray of this machine's, as `serve run` deploys them: asked through Ray Serve's proxy."""

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from support.api_server import wait_until
from support.served_process import clean_environment

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parents[2] / "support/ray_cluster.py"
PREFIX = "/llm"
STARTS_WITHIN_S = 120.0
ENDS_WITHIN_S = 60.0
CHAT = {"model": "grist", "messages": [{"role": "user", "content": "hello"}], "temperature": 0, "max_tokens": 16}


@dataclass
class Cluster:
    """A running cluster with two replicas."""

    process: "subprocess.Popen[bytes]"
    address: str
    log: Path

    def post(self, body: Any, path: str = "/v1/chat/completions") -> httpx.Response:
        return httpx.post(self.address + path, json=body, headers={"x-api-key": "secret"}, timeout=60)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if httpx.get(self.address + "/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"no replica got ready: {self.log.read_text()}")

    def everything(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def config(port: int) -> dict[str, Any]:
    return {
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [
            {
                "name": "pagemill",
                "route_prefix": PREFIX,
                "import_path": "pagemill_handlers.ray_serve:build_app",
                "args": {"threads": 1, "max_num_seqs": 4},
                "runtime_env": {"env_vars": {"PAGEMILL_API_KEY": "secret", "PAGEMILL_MODEL": "grist"}},
                "deployments": [
                    {"name": "Pagemill", "num_replicas": 2, "ray_actor_options": {"num_cpus": 1}},
                ],
            }
        ],
    }


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # Ray puts sockets there, whose paths must be short
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    (folder / "config.yaml").write_text(yaml.safe_dump(config(port)))
    log = folder / "log.txt"
    environment = clean_environment(
        HOME=str(folder),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_AUTH_MODE="disabled",
        RAY_DEDUP_LOGS="0",
        RAY_worker_niceness="0",  # 15 usually, which beside other tests starves them
        RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S="60",  # on a busy machine its imports take longer than the usual 5
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder / "config.yaml"), str(folder / "r")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    running = Cluster(process, f"http://127.0.0.1:{port}{PREFIX}", log)
    try:
        running.wait_ready()
        yield running
    finally:
        left = running.everything() if process.poll() is None else []
        if process.stdin is not None and not process.stdin.closed:
            process.stdin.close()
        process.wait(ENDS_WITHIN_S)
        psutil.wait_procs(left, timeout=10)
        for child in left:
            if child.is_running():
                child.kill()
        shutil.rmtree(folder, ignore_errors=True)


def streamed_text(lines: Iterator[str]) -> str:
    data = [line.removeprefix("data: ") for line in lines if line]
    assert data.pop() == "[DONE]"
    return "".join(json.loads(item)["choices"][0]["delta"].get("content") or "" for item in data)


def test_a_chat_is_answered_whole_and_streamed(cluster: Cluster) -> None:
    whole = cluster.post(CHAT)
    assert whole.status_code == 200, whole.text
    text = whole.json()["choices"][0]["message"]["content"]
    assert text
    streamed = cluster.post({**CHAT, "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert streamed_text(streamed.iter_lines()) == text


def test_both_replicas_answer_and_say_the_same(cluster: Cluster) -> None:
    """A replica's process is there before the proxy knows it, so rounds are asked until both have answered."""
    answered = re.compile(r"ServeReplica:pagemill:Pagemill pid=(\d+)\).* POST \S+/chat/completions 200 ")
    texts = set()

    def both_answered() -> bool:
        with ThreadPoolExecutor(12) as pool:
            for answer in pool.map(cluster.post, [{**CHAT, "max_tokens": 64}] * 12):
                assert answer.status_code == 200, answer.text
                texts.add(answer.json()["choices"][0]["message"]["content"])
        return len(set(answered.findall(cluster.log.read_text()))) == 2

    wait_until(both_answered, STARTS_WITHIN_S)
    assert len(texts) == 1


def test_variables_of_the_application_reach_the_replicas(cluster: Cluster) -> None:
    assert httpx.post(cluster.address + "/v1/chat/completions", json=CHAT, timeout=30).status_code == 401


def test_errors_keep_their_status_and_shape(cluster: Cluster) -> None:
    wrong = cluster.post({**CHAT, "temperature": "hot"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "temperature")


def test_a_replica_that_is_to_go_ends_its_stream_first(cluster: Cluster) -> None:
    """The last test: it ends the cluster."""
    body = {**CHAT, "stream": True, "max_tokens": 400, "ignore_eos": True, "stream_options": {"include_usage": True}}
    with httpx.stream(
        "POST", cluster.address + "/v1/chat/completions", json=body, headers={"x-api-key": "secret"}, timeout=60
    ) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert cluster.process.stdin is not None
        cluster.process.stdin.close()
        data = [line.removeprefix("data: ") for line in lines if line]
    assert data[-1] == "[DONE]"
    assert json.loads(data[-2])["usage"]["completion_tokens"] == 400
    assert cluster.process.wait(ENDS_WITHIN_S) == 0
