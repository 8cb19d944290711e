"""The function under AWS's own emulator. It buffers streams and drops trailers: those are test_streamed's subject."""

import base64
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.lambda_emulator import managed_instance, managed_instances_possible, running_emulator
from support.lambda_runtime import HELLO, KINDS, REPLY, event

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the emulator is a Linux program"),
]

MODULE = ("-m", "pagemill_handlers.aws_lambda")
FUNCTION = str(Path(__file__).parents[2] / "support/lambda_function.py")


def test_events_of_all_kinds_errors_binary_bodies_and_the_limit_in_buffered_mode(tmp_path: Path) -> None:
    with running_emulator(tmp_path, *MODULE, PAGEMILL_LAMBDA_MODE="buffered") as emulator:
        for kind in KINDS:
            answer = emulator.invoke(event(kind)).json()
            assert answer["statusCode"] == 200
            assert json.loads(answer["body"])["choices"][0]["message"]["content"] == REPLY
            assert emulator.invoke(event(kind, HELLO, path="/nowhere")).json()["statusCode"] == 404

        encoded = event("function_url")
        encoded["body"], encoded["isBase64Encoded"] = base64.b64encode(encoded["body"].encode()).decode(), True
        assert emulator.invoke(encoded).json()["statusCode"] == 200

        failed = emulator.invoke({"source": "aws.events"}).json()
        assert failed["errorType"] == "InvalidRequestError"

        many_tokens = {"model": "fake", "prompt": "x" * 2_000_000}
        too_large = emulator.invoke(event("http_api", many_tokens, path="/tokenize")).json()
        assert too_large["statusCode"] == 413
        assert "6291556" in json.loads(too_large["body"])["error"]["message"]

        assert emulator.invoke(event("http_api")).json()["statusCode"] == 200


@pytest.mark.parametrize("kind", ["function_url", "rest_api"])
def test_a_stream_is_taken_with_its_prelude(tmp_path: Path, kind: str) -> None:
    with running_emulator(tmp_path, *MODULE) as emulator:
        content = emulator.invoke(event(kind, {**HELLO, "stream": True})).content
        whole = emulator.invoke(event("http_api")).json()
    prelude, _, stream = content.partition(bytes(8))
    assert json.loads(prelude)["headers"]["content-type"].startswith("text/event-stream")
    assert stream.endswith(b"data: [DONE]\n\n")
    assert whole["statusCode"] == 200
    assert "Internal agent pagemill" in emulator.log
    assert "shutting down; 0 requests" in emulator.log, "no SIGTERM came"


def test_a_request_past_the_functions_timeout_is_answered_and_the_sandbox_lives(tmp_path: Path) -> None:
    variables = {"AWS_LAMBDA_FUNCTION_TIMEOUT": "2", "PAGEMILL_LAMBDA_MODE": "buffered"}
    with running_emulator(tmp_path, FUNCTION, "0.1", **variables) as emulator:
        late = emulator.invoke(event("http_api")).json()
        after = emulator.invoke(event("http_api", {**HELLO, "max_tokens": 1})).json()
    assert late["statusCode"] == 504
    assert after["statusCode"] == 200
    assert "timed out" not in emulator.log.lower()


def test_three_invocations_run_at_once_in_one_process(tmp_path: Path) -> None:
    if not managed_instances_possible():
        pytest.skip("as a Managed Instance the emulator runs only /var/task/bootstrap, and only root can put it there")
    with (
        managed_instance(tmp_path, 3, FUNCTION, "0.02") as emulator,
        ThreadPoolExecutor(3) as threads,
    ):
        start = time.monotonic()
        emulator.invoke(event("http_api"))
        alone_s = time.monotonic() - start
        start = time.monotonic()
        answers = list(threads.map(lambda _: emulator.invoke(event("http_api")).json(), range(3)))
        together_s = time.monotonic() - start
    assert [answer["statusCode"] for answer in answers] == [200] * 3
    assert together_s < 2 * alone_s, "they ran one after another"


def test_grist_answers_under_the_emulator(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    question = {"model": "grist", "temperature": 0, "messages": [{"role": "user", "content": "What is 7 + 5?"}]}
    with running_emulator(tmp_path, *MODULE, PAGEMILL_MODEL="grist", PAGEMILL_LAMBDA_MODE="buffered") as emulator:
        answer = emulator.invoke(event("function_url", question)).json()
    assert json.loads(answer["body"])["choices"][0]["message"]["content"] == "7 + 5 = 12"
