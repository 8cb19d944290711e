"""The life of `pagemill serve`, as a process: port, readiness, signals, exit codes."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from support.served_process import FULL_REPLY, READY_WITHIN_S, ServedProcess, clean_environment, served_process

pytestmark = pytest.mark.slow

CHAT = {"model": "fake", "prompt": "hi", "raw": True, "options": {"temperature": 0}}


def run_to_end(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """`pagemill serve` when it is expected to end by itself."""
    command = [sys.executable, "-m", "pagemill", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=READY_WITHIN_S, env=clean_environment())


def stream_across(served: ServedProcess, *signals: int) -> tuple[str, str]:
    """Begin a stream, send the signals after its first line, read the rest: (text, reason for the end)."""
    text, reason = "", ""
    with httpx.stream("POST", served.address + "/api/generate", json=CHAT, timeout=READY_WITHIN_S) as response:
        for number, line in enumerate(response.iter_lines()):
            item = json.loads(line)
            text += item.get("response", "")
            reason = item.get("done_reason") or item.get("error") or reason
            if number == 0:
                for sent in signals:
                    served.process.send_signal(sent)
    return text, reason


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_a_stream_lets_it_end_and_exits_0(sent: int) -> None:
    with served_process("fake", "--port", "0", step_delay_s=0.03) as served:
        text, reason = stream_across(served, sent)
        assert (text, reason) == (FULL_REPLY, "stop")
        assert served.wait() == 0
        assert "shutting down; 1 requests get 30 s to end" in served.log
        assert "Traceback" not in served.log


def test_a_stream_that_outlasts_the_drain_timeout_is_aborted_with_a_reason() -> None:
    with served_process("fake", "--port", "0", "--drain-timeout-s", "0.3", step_delay_s=0.5) as served:
        started = time.monotonic()
        text, reason = stream_across(served, signal.SIGTERM)
        assert text != FULL_REPLY
        assert reason
        assert served.wait() == 0
        assert time.monotonic() - started < 10, "the whole answer would take 22 s"


def test_while_it_drains_new_connections_are_refused() -> None:
    with served_process("fake", "--port", "0", step_delay_s=0.1) as served:
        with httpx.stream("POST", served.address + "/api/generate", json=CHAT, timeout=READY_WITHIN_S) as response:
            lines = response.iter_lines()
            next(lines)
            served.process.terminate()
            while "shutting down" not in served.log:
                next(lines)
            next(lines)  # the listener is closed right after that line
            with pytest.raises(httpx.ConnectError):
                httpx.get(served.address + "/livez", timeout=5)
            assert json.loads(list(lines)[-1])["done"] is True
        assert served.wait() == 0


def test_a_second_interrupt_ends_it_at_once() -> None:
    with served_process("fake", "--port", "0", step_delay_s=0.5) as served:
        with httpx.stream("POST", served.address + "/api/generate", json=CHAT, timeout=READY_WITHIN_S) as response:
            next(response.iter_lines())
            started = time.monotonic()
            served.process.send_signal(signal.SIGINT)
            while "shutting down" not in served.log:
                time.sleep(0.02)
            served.process.send_signal(signal.SIGINT)
            assert served.wait() == 1
        assert time.monotonic() - started < 10


def test_port_0_logs_the_port_that_it_took() -> None:
    with served_process("fake", "--port", "0") as served:
        assert served.address.startswith("http://127.0.0.1:")
        assert httpx.get(served.address + "/readyz", timeout=30).status_code == 200
        port = httpx.URL(served.address).port
        busy = run_to_end("fake", "--port", str(port))
    assert busy.returncode == 1
    assert busy.stderr == (
        f"pagemill: can't listen on 127.0.0.1:{port}: Address already in use; "
        "stop what listens there, or choose another with --port\n"
    )


def test_a_unix_socket_serves_and_its_file_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    with socket.socket(socket.AF_UNIX) as stale:  # what a killed server leaves behind
        stale.bind(str(path))
    with served_process("fake", "--uds", str(path)) as served:
        assert served.address == f"unix:{path}"
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://server") as client:
            assert client.get("/readyz").status_code == 200
        second = run_to_end("fake", "--uds", str(path))
        served.process.terminate()
        assert served.wait() == 0
    assert second.returncode == 1
    assert "another server listens there" in second.stderr
    assert not path.exists()


def test_a_file_in_the_place_of_the_unix_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    outcome = run_to_end("fake", "--uds", str(path))
    assert outcome.returncode == 1
    assert "a file is there that is no socket" in outcome.stderr
    assert path.read_text() == "mine"


def test_the_prefix_of_a_proxy_is_no_part_of_the_routes() -> None:
    with served_process("fake", "--port", "0", "--root-path", "/llm") as served:
        assert httpx.get(served.address + "/readyz", timeout=30).status_code == 200


def test_a_model_that_is_nowhere_ends_it_before_it_serves() -> None:
    outcome = run_to_end("nowhere", "--port", "0")
    assert outcome.returncode == 1
    assert "'nowhere' not found" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_model_that_can_not_be_loaded_ends_it_with_exit_code_1(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(64))
    outcome = run_to_end(str(path), "--port", "0")
    assert outcome.returncode == 1
    assert "can't load broken" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_the_log_level_holds() -> None:
    with served_process("fake", "--port", "0", "--log-level", "info") as served:
        httpx.get(served.address + "/version", timeout=30)
        while "GET /version 200" not in served.log:
            time.sleep(0.02)
    outcome = run_to_end("fake", "--log-level", "loud")
    assert outcome.returncode == 2
    assert "--log-level" in outcome.stderr


@pytest.mark.parametrize(
    ("flags", "is_open"), [((), True), (("--api-key", "k"), False), (("--host", "127.0.0.1"), False)]
)
def test_a_server_that_everybody_reaches_says_so_unless_it_has_a_key(flags: tuple[str, ...], is_open: bool) -> None:
    with served_process("fake", "--port", "0", "--host", "0.0.0.0", *flags) as served:
        assert ("there is no api_key" in served.log) == is_open
