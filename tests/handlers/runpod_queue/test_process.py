"""The worker's process under RunPod's own package: against its job API (ours, on loopback) and its local test API."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from support.fake_runpod_api import FakeRunpodApi, fake_runpod_api
from support.served_process import FULL_REPLY, clean_environment

pytestmark = pytest.mark.slow

ENDS_WITHIN_S = 30.0
CHAT = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0}
ROUTE = "/v1/chat/completions"
PROGRAM = """
import sys
from pagemill import bootstrap
from pagemill.backends.fake import FakeBackend
bootstrap.load_backend = lambda reference, settings: FakeBackend(step_delay_s={step_delay_s})
from pagemill_handlers.runpod_queue.__main__ import main
sys.exit(main())
"""


class Worker:
    """The process, and its output as it comes."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.output: list[str] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.output.extend(self.process.stdout)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(ENDS_WITHIN_S)
        self._reading.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def worker(*arguments: str, step_delay_s: float = 0.0, **variables: str) -> Iterator[Worker]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(step_delay_s=step_delay_s), *arguments],
        env=clean_environment(PAGEMILL_MODEL="fake", **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Worker(process)
    try:
        yield running
    finally:
        running.close()


@contextmanager
def queue_worker(*, step_delay_s: float = 0.0, **variables: str) -> Iterator[tuple[FakeRunpodApi, Worker]]:
    with fake_runpod_api() as api, worker(step_delay_s=step_delay_s, **api.variables(), **variables) as running:
        yield api, running


def test_jobs_are_answered_whole_streamed_and_with_errors_and_need_no_key() -> None:
    guarded: dict[str, Any] = {"PAGEMILL_API_KEY": "secret", "PAGEMILL_MAX_CONCURRENT_REQUESTS": "1"}
    with queue_worker(**guarded) as (api, running):
        whole, streamed, wrong = (
            api.submit(CHAT),
            api.submit({"openai_route": ROUTE, "openai_input": {**CHAT, "stream": True}}),
            api.submit({"openai_route": ROUTE, "openai_input": {**CHAT, "temperature": "hot"}}),
        )
        [answer] = whole.wait()["output"]
        assert answer["choices"][0]["message"]["content"] == FULL_REPLY
        text = "".join(streamed.wait()["output"])
        assert text == "".join(streamed.pieces())
        assert text.endswith("data: [DONE]\n\n")
        assert json.loads(wrong.wait()["error"])["param"] == "temperature"
        assert "output" not in wrong.wait()
        assert not [line for line in running.output if "hello" in line or "quick" in line], "texts were logged"


def test_pieces_of_a_stream_arrive_while_it_runs_and_jobs_run_at_once() -> None:
    body = {"openai_route": ROUTE, "openai_input": {**CHAT, "stream": True}}
    with queue_worker(step_delay_s=0.03, PAGEMILL_MAX_NUM_SEQS="4") as (api, _running):
        jobs = [api.submit(body) for _ in range(3)]
        for job in jobs:
            job.wait()
        first = [job.outputs[0][0] for job in jobs]
        last = [job.outputs[-1][0] for job in jobs]
        assert max(first) < min(last), "one ran after another"
        assert min(len(job.outputs) for job in jobs) > 5
        assert max(api.num_asked_for) == 4


def test_a_job_that_is_stopped_leaves_the_others_alone() -> None:
    body = {"openai_route": ROUTE, "openai_input": {**CHAT, "stream": True}}
    with queue_worker(step_delay_s=0.05, PAGEMILL_MAX_NUM_SEQS="4") as (api, _running):
        stopped, other = api.submit(body), api.submit(body)
        while not stopped.outputs:
            time.sleep(0.01)
        api.stop(stopped)
        other.wait()
        assert "".join(other.pieces()).endswith("data: [DONE]\n\n")
        assert stopped.result is None
        assert "[DONE]" not in "".join(stopped.pieces())


def test_sigterm_lets_a_job_end_and_exits_0() -> None:
    with queue_worker(step_delay_s=0.03) as (api, running):
        job = api.submit(CHAT)
        while not any("Started" in line or "Jobs in progress" in line for line in running.output):
            time.sleep(0.01)
        running.process.send_signal(signal.SIGTERM)
        [answer] = job.wait()["output"]
        assert answer["choices"][0]["message"]["content"] == FULL_REPLY
        assert running.process.wait(ENDS_WITHIN_S) == 0
        assert "Traceback" not in "".join(running.output)


def test_runpods_local_api_runs_the_handler() -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = str(found.getsockname()[1])
    with worker("--rp_serve_api", "--rp_api_host", "127.0.0.1", "--rp_api_port", port) as running:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + ENDS_WITHIN_S
        while time.monotonic() < deadline and running.process.poll() is None:
            with contextlib.suppress(httpx.ConnectError):
                answer = httpx.post(f"{address}/runsync", json={"input": CHAT}, timeout=30).json()
                break
            time.sleep(0.1)
        assert answer["status"] == "COMPLETED"
        assert answer["output"][0]["choices"][0]["message"]["content"] == FULL_REPLY


@pytest.mark.parametrize(
    ("variables", "said"),
    [({"PAGEMILL_PORT": "x"}, "PAGEMILL_PORT"), ({"PAGEMILL_MODEL": "nowhere"}, "'nowhere' not found")],
)
def test_what_makes_serving_impossible_ends_it_with_exit_code_1(variables: dict[str, str], said: str) -> None:
    command = [sys.executable, "-m", "pagemill_handlers.runpod_queue"]
    run = subprocess.run(
        command, env=clean_environment(**variables), capture_output=True, text=True, timeout=ENDS_WITHIN_S
    )
    assert run.returncode == 1
    assert said in run.stderr
    assert "Traceback" not in run.stderr
