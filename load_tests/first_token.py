"""The client of the cold starts: starts a server's process and times the first token over HTTP. Owns no state.

It tries to connect every 2 ms; a server that answers 503 while it loads is asked again after 2 ms; one that takes the
connection and answers when the model is there is waited for.
"""

import http.client
import json
import time

from load_tests.servers import RunningServer, ServerCommand

RETRY_S = 0.002
GIVE_UP_S = 120.0
MESSAGE = "Hello!"


def start_once(command: ServerCommand) -> float:
    """Seconds from before the process is started to the first byte of content."""
    with RunningServer(command, wait_ready_s=0) as server:
        return first_content_s(server)


def first_content_s(server: RunningServer) -> float:
    """Ask until the first content comes; seconds since before the process was started."""
    deadline = time.perf_counter() + GIVE_UP_S
    while time.perf_counter() < deadline:
        arrived_s = _try_first_content(server)
        if arrived_s is not None:
            return arrived_s - server.started_s
        server.check_alive()
        time.sleep(RETRY_S)
    raise TimeoutError(f"{server.command.name} gave no token in {GIVE_UP_S} s:\n{server.log_end()}")


def _try_first_content(server: RunningServer) -> float | None:
    """When the first content came; None if the server does not listen yet, or says 503."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=GIVE_UP_S)
    body = {
        "model": server.command.model,
        "messages": [{"role": "user", "content": MESSAGE}],
        "max_tokens": 4,
        "temperature": 0,
        "stream": True,
    }
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status == 503:
            return None
        if response.status != 200:
            raise RuntimeError(f"{server.command.name}: status {response.status}: {response.read()[:500]!r}")
        return _read_first_content(response, server.command.name)
    except (ConnectionRefusedError, ConnectionResetError, http.client.RemoteDisconnected):
        return None
    finally:
        connection.close()


def _read_first_content(response: http.client.HTTPResponse, name: str) -> float:
    for line in response:
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data != b"[DONE]":
            choices = json.loads(data).get("choices")
            if choices and choices[0]["delta"].get("content"):
                return time.perf_counter()
    raise RuntimeError(f"{name}: the stream ended without content")
