"""Behaviours 10 to 12: missing models, failures on the way and full queues; and clients that go away."""

import json
import subprocess
import threading
from typing import Any

import httpx
import pytest

from pagemill.backends.fake import FakeBackend
from pagemill.engine.engine import EngineConfig
from pagemill.engine.step import StepPlan
from support.api_server import RunningServer, Serve, wait_until
from support.ollama_requests import conversation, error, lines, question

BUSY = "server busy, please try again.  maximum pending requests exceeded"


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/show"])
def test_10_a_missing_model_is_404_in_ollamas_words(parrots: RunningServer, path: str) -> None:
    assert error(parrots.post(path, {"model": "x"}), 404) == "model 'x' not found"


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/show"])
@pytest.mark.parametrize("body", [{}, {"model": ""}])
def test_10_a_blank_name_is_400(parrots: RunningServer, path: str, body: dict[str, Any]) -> None:
    assert error(parrots.post(path, body), 400) == "model is required"


def fails_after(num_steps: int) -> Any:
    """A backend's `fail_on`: the first steps go well."""
    seen: list[int] = []

    def fail_on(plan: StepPlan) -> str | None:
        seen.extend([1] if plan.chunks else [])
        return "the device caught fire" if len(seen) > num_steps else None

    return fail_on


def test_11_a_failure_in_mid_stream_is_the_last_line(serve: Serve) -> None:
    server = serve(FakeBackend(fail_on=fails_after(4)))
    *parts, last = lines(server.post("/api/chat", conversation("hi")))
    assert len(parts) == 4
    assert list(last) == ["error"]
    assert "the device caught fire" in last["error"]


@pytest.mark.parametrize("stream", [True, False])
def test_11_a_failure_before_the_first_byte_has_a_real_status(serve: Serve, stream: bool) -> None:
    server = serve(FakeBackend(fail_on=fails_after(0)))
    assert "the device caught fire" in error(server.post("/api/generate", question("hi", stream=stream)), 500)


def test_11_a_failure_in_the_middle_of_a_whole_answer_has_a_real_status(serve: Serve) -> None:
    server = serve(FakeBackend(fail_on=fails_after(4)))
    assert "the device caught fire" in error(server.post("/api/generate", question("hi", stream=False)), 500)


@pytest.mark.parametrize("stream", [True, False])
def test_12_a_full_queue_is_503_in_ollamas_words(serve: Serve, stream: bool) -> None:
    backend = FakeBackend(reply=lambda prompt: [97] * 2000, max_num_seqs=1, step_delay_s=0.01)
    server = serve(backend, config=EngineConfig(max_num_queued_reqs=0, retry_after_s=3))
    with httpx.stream("POST", server.url + "/api/chat", json=conversation("hold the place")) as holder:
        incoming = holder.iter_lines()  # kept: the response is closed with its iterator
        next(incoming)
        response = server.post("/api/generate", question("me too", stream=stream))
        assert error(response, 503) == BUSY
        assert response.headers["retry-after"] == "3"
    wait_until(lambda: server.engine.num_unfinished() == 0)


def test_a_client_that_goes_away_frees_its_sequence(serve: Serve) -> None:
    backend = FakeBackend(reply=lambda prompt: [97] * 4000, step_delay_s=0.005)
    server = serve(backend)
    for path, ask in (("/api/generate", question), ("/api/chat", conversation)):
        with httpx.stream("POST", server.url + path, json=ask("talk")) as response:
            incoming = response.iter_lines()  # kept: the response is closed with its iterator
            next(incoming)
            assert server.engine.num_unfinished() == 1
        wait_until(lambda: server.engine.num_unfinished() == 0)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(server.url + path, json=ask("talk", stream=False), timeout=0.2)
        wait_until(lambda: server.engine.num_unfinished() == 0)
    wait_until(lambda: backend.num_sequences == 0)


def test_many_clients_at_once_each_get_their_own_answer(parrots: RunningServer) -> None:
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        body = conversation(f"I am {number}", stream=False)
        answers[number] = parrots.post("/api/chat", body).json()["message"]["content"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: f"I am {number}" for number in range(16)}


def test_curl_reads_a_streamed_answer(parrots: RunningServer) -> None:
    command = ["curl", "-sS", "-N", parrots.url + "/api/generate", "-d", json.dumps(question("by curl"))]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    parts = [json.loads(line) for line in output.splitlines()]
    assert "".join(part["response"] for part in parts) == "by curl"
    assert parts[-1]["done"] is True
