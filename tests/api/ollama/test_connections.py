"""Clients that go away, many at once, and curl."""

import json
import subprocess
import threading

import httpx
import pytest

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, Serve, wait_until
from support.ollama_requests import conversation, question


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
