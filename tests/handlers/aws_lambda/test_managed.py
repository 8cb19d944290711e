"""The managed Python runtime's `handler`: one server for the process, on an event loop thread of its own."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pagemill.errors import InvalidRequestError, SettingsError
from pagemill_handlers.aws_lambda.background import BackgroundServer
from support.lambda_runtime import HELLO, KINDS, REPLY, event
from support.served_process import clean_environment


class Context:
    """As awslambdaric makes it, as far as it is used."""

    def __init__(self, remaining_s: float = 30.0) -> None:
        self.aws_request_id = "request-1"
        self._remaining_s = remaining_s

    def get_remaining_time_in_millis(self) -> int:
        return int(self._remaining_s * 1000)


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    server = BackgroundServer.from_environment({"PAGEMILL_MODEL": "fake"})
    server.start()
    yield server
    server.close()


@pytest.mark.parametrize("kind", KINDS)
def test_events_of_all_kinds_are_answered(server: BackgroundServer, kind: str) -> None:
    answer = server.handle(event(kind), Context())
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["choices"][0]["message"]["content"] == REPLY
    json.dumps(answer)


def test_one_server_serves_many_calls_from_any_thread(server: BackgroundServer) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: server.handle(event("http_api"), Context()), range(8)))
    assert [answer["statusCode"] for answer in answers] == [200] * 8


def test_a_call_past_its_deadline_is_a_504(server: BackgroundServer) -> None:
    answer = server.handle(event("http_api", {**HELLO, "max_tokens": 4000, "ignore_eos": True}), Context(1.0))
    assert answer["statusCode"] == 504


def test_what_is_no_http_event_raises_so_that_the_runtime_reports_it(server: BackgroundServer) -> None:
    with pytest.raises(InvalidRequestError, match="HTTP events"):
        server.handle({"Records": []}, Context())


def test_a_wrong_setting_names_its_variable() -> None:
    with pytest.raises(SettingsError, match="PAGEMILL_LAMBDA_TYPO"):
        BackgroundServer.from_environment({"PAGEMILL_MODEL": "fake", "PAGEMILL_LAMBDA_TYPO": "1"})


def test_closing_ends_the_thread() -> None:
    server = BackgroundServer.from_environment({"PAGEMILL_MODEL": "fake"})
    server.start()
    assert any(thread.name == "pagemill" for thread in threading.enumerate())
    before = threading.active_count()
    server.close()
    assert threading.active_count() < before


PROGRAM = """
import json, sys
from pagemill_handlers.aws_lambda.managed import handler

class Context:
    aws_request_id = "request-1"
    def get_remaining_time_in_millis(self):
        return 30_000

for line in sys.stdin:
    print(json.dumps(handler(json.loads(line), Context())), flush=True)
"""


def test_the_handlers_module_serves_as_the_managed_runtime_calls_it() -> None:
    lines = "".join(json.dumps(event(kind)) + "\n" for kind in KINDS)
    environment = clean_environment(PAGEMILL_MODEL="fake")
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    result = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60, env=environment)
    assert result.returncode == 0, result.stderr
    assert [json.loads(line)["statusCode"] for line in result.stdout.splitlines()] == [200] * 4
    assert os.environ.get("PAGEMILL_MODEL") is None
