"""`pagemill serve` as the process of a container: where the platform tells it to listen, and how it goes."""

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from support.served_process import FULL_REPLY, READY_WITHIN_S, ServedProcess, served_process

pytestmark = pytest.mark.slow

CHAT = {"model": "fake", "prompt": "hi", "raw": True, "options": {"temperature": 0}}
ENDPOINTS = ("/livez", "/readyz", "/health", "/ping")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def addresses(served: ServedProcess) -> list[str]:
    found = re.search(r"listening at (\S+), and for probes at (\S+)", served.log)
    assert found
    return [*found.groups()]


@contextmanager
def stream_begun(served: ServedProcess) -> Iterator[Iterator[str]]:
    """The lines of a stream, of which the first has come."""
    with httpx.stream("POST", served.address + "/api/generate", json=CHAT, timeout=READY_WITHIN_S) as response:
        lines = response.iter_lines()
        next(lines)
        yield lines


def wait_for_log(served: ServedProcess, text: str) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while text not in served.log:
        assert time.monotonic() < deadline, served.log
        time.sleep(0.01)


def test_it_listens_where_port_says() -> None:
    port = free_port()
    with served_process("fake", PORT=str(port)) as served:
        assert served.address == f"http://127.0.0.1:{port}"
        assert httpx.get(served.address + "/ping", timeout=30).status_code == 200


def test_the_probes_port_answers_probes_and_nothing_else() -> None:
    with served_process("fake", "--port", "0", PORT_HEALTH="0") as served:
        main, health = addresses(served)
        assert main == served.address
        assert [httpx.get(health + path, timeout=30).status_code for path in ENDPOINTS] == [200] * len(ENDPOINTS)
        assert [httpx.get(main + path, timeout=30).status_code for path in ENDPOINTS] == [200] * len(ENDPOINTS)
        for refused in (
            httpx.post(health + "/api/generate", json=CHAT, timeout=30),
            httpx.get(health + "/version", timeout=30),
        ):
            assert refused.status_code == 404
            assert f"on port {urlsplit(health).port}" in refused.text
        served.process.terminate()
        assert served.wait() == 0


def test_the_probes_need_no_second_port_if_it_is_the_first() -> None:
    port = str(free_port())
    with served_process("fake", PORT=port, PORT_HEALTH=port) as served:
        assert "for probes" not in served.log
        assert httpx.get(served.address + "/ping", timeout=30).status_code == 200


def test_the_probes_may_have_a_port_beside_a_unix_socket(tmp_path: Path) -> None:
    with served_process("fake", "--uds", str(tmp_path / "p.sock"), PORT_HEALTH="0") as served:
        _main, health = addresses(served)
        assert httpx.get(health + "/readyz", timeout=30).status_code == 200
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / "p.sock")), base_url="http://x") as client:
            assert client.post("/api/generate", json=CHAT, timeout=30).status_code == 200


def test_a_probes_port_that_is_taken_ends_it_with_the_flag_that_chooses_another() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        served_process("fake", "--port", "0", wait_ready=False, PORT_HEALTH=str(taken.getsockname()[1])) as served,
    ):
        assert served.wait() == 1
        wait_for_log(served, "--health-port")


def test_while_a_model_loads_on_runpod_a_ping_is_204_and_then_200() -> None:
    port = str(free_port())
    with served_process("fake", load_delay_s=2, wait_ready=False, PORT=port, RUNPOD_ENDPOINT_ID="abc") as served:
        wait_for_log(served, "listening at")
        address = f"http://127.0.0.1:{port}"
        loading = httpx.get(address + "/ping", timeout=30)
        assert (loading.status_code, loading.content) == (204, b"")
        served.wait_ready()
        assert httpx.get(address + "/ping", timeout=30).status_code == 200


def test_sigterm_while_a_model_loads_ends_it_at_once() -> None:
    with served_process("fake", "--port", "0", load_delay_s=60, wait_ready=False) as served:
        wait_for_log(served, "listening at")
        started = time.monotonic()
        served.process.terminate()
        assert served.wait() == 0
        assert time.monotonic() - started < 10


def test_a_second_sigterm_changes_nothing() -> None:
    with served_process("fake", "--port", "0", step_delay_s=0.05) as served:
        with stream_begun(served) as lines:
            served.process.send_signal(signal.SIGTERM)
            wait_for_log(served, "shutting down")
            served.process.send_signal(signal.SIGTERM)
            last = [json.loads(line) for line in lines][-1]
        assert last["done_reason"] == "stop"
        assert served.wait() == 0


def test_while_it_drains_a_request_under_way_is_refused_and_its_connection_closed() -> None:
    """A connection that was open before is told so, rather than hung or answered late."""
    body = json.dumps({**CHAT, "stream": False}).encode()
    head = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with served_process("fake", "--port", "0", step_delay_s=0.05) as served:
        url = urlsplit(served.address)
        with (
            stream_begun(served) as lines,
            socket.create_connection((url.hostname, url.port), timeout=10) as late,
            socket.create_connection((url.hostname, url.port), timeout=10) as idle,
        ):
            late.sendall(head + body[:5])
            next(lines)
            served.process.terminate()
            wait_for_log(served, "shutting down")
            next(lines)
            late.sendall(body[5:])
            answer = late.makefile("rb").read()  # to its end: the connection is closed
            assert idle.recv(1) == b""
            text = "".join(json.loads(line).get("response", "") for line in lines)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in answer.lower()
        assert b"shutting down" in answer
        assert FULL_REPLY.endswith(text)
        assert served.wait() == 0


def test_a_wrong_port_ends_it_with_the_variables_name() -> None:
    with served_process("fake", wait_ready=False, PORT="http") as served:
        assert served.wait() == 2
        wait_for_log(served, "PORT: ")
