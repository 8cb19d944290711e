"""Request ids, the access log, API keys and the body limit, as clients meet them."""

import http.client
import logging
import shutil
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from support.api_server import RunningServer, Serve, running_server, wait_until

KEYS = ("sk-first", "sk-second")
HELLO = [{"role": "user", "content": "a very private prompt"}]


@pytest.fixture(scope="module")
def guarded() -> Iterator[RunningServer]:
    """A server with API keys."""
    with running_server(api_key=KEYS) as server:
        yield server


def test_sane_request_id_is_echoed(server: RunningServer) -> None:
    response = server.get("/v1/models", headers={"X-Request-Id": "abc-123.x:y_z"})
    assert response.headers["x-request-id"] == "abc-123.x:y_z"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb", "ü".encode().decode("latin-1")])
def test_odd_request_id_is_replaced(server: RunningServer, given: str) -> None:
    response = server.get("/v1/models", headers={"X-Request-Id": given.encode("latin-1")})
    assert response.headers["x-request-id"] != given
    assert len(response.headers["x-request-id"]) == 32


def test_request_ids_differ(server: RunningServer) -> None:
    assert len({server.get("/v1/models").headers["x-request-id"] for _ in range(5)}) == 5


def test_errors_carry_the_request_id_too(server: RunningServer) -> None:
    assert server.get("/nowhere", headers={"X-Request-Id": "r1"}).headers["x-request-id"] == "r1"


def test_access_log_says_what_happened_but_not_the_prompt(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        server.post(
            "/v1/chat/completions",
            {"messages": HELLO, "max_tokens": 1, "user": "ann"},
            headers={"X-Request-Id": "log-1"},
        )
        wait_until(lambda: any("log-1" in record.getMessage() for record in caplog.records))
    line = next(record.getMessage() for record in caplog.records if "log-1" in record.getMessage())
    assert line.startswith("POST /v1/chat/completions 200 ")
    assert " ms " in line
    assert "model=fake" in line
    assert "user='ann'" in line
    assert "key=" not in line, "there is none"
    assert "private" not in caplog.text


def test_access_log_names_the_safety_identifier_rather_than_the_user_that_it_replaces(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="pagemill.api.middleware"):
        server.post(
            "/v1/chat/completions", {"messages": HELLO, "max_tokens": 1, "user": "old", "safety_identifier": "new"}
        )
        wait_until(lambda: "POST" in caplog.text)
    assert "user='new'" in caplog.text


def test_access_log_can_not_be_forged_by_a_path(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pagemill.api.middleware"):
        server.get("/x%0aPOST%20/forged")
        wait_until(lambda: "/x" in caplog.text)
    assert all("\n" not in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("key", KEYS)
def test_any_of_the_keys_opens_as_bearer_or_x_api_key(guarded: RunningServer, key: str) -> None:
    for headers in ({"Authorization": f"Bearer {key}"}, {"authorization": f"bearer {key}"}, {"x-api-key": key}):
        assert guarded.get("/v1/models", headers=headers).status_code == 200


def test_x_api_key_opens_beside_an_authorization_that_is_for_a_gateway(guarded: RunningServer) -> None:
    headers = {"Authorization": "Bearer of-the-gateway", "x-api-key": KEYS[0]}
    assert guarded.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic sk-first"},
        {"Authorization": "sk-first"},
        {"x-api-key": "sk-firs"},
        {"x-api-key": "sk-firstx"},
        {"x-api-key": ""},
        {"x-api-key": "wrong", "Authorization": "Bearer sk-first"},
    ],
    ids=str,
)
def test_no_or_wrong_key_is_a_401(guarded: RunningServer, headers: dict[str, str]) -> None:
    response = guarded.get("/v1/models", headers=headers)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert response.headers["www-authenticate"] == "Bearer"
    assert "sk-" not in response.text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/ping", "/"])
def test_probes_need_no_key(guarded: RunningServer, path: str) -> None:
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/metrics", "/version", "/v1/models", "/api/tags", "/api/version", "/nowhere", "/livez/x", "//", "/Health"]
)
def test_everything_else_needs_a_key(guarded: RunningServer, path: str) -> None:
    assert guarded.get(path).status_code == 401


def test_401_in_the_ollama_dialect_has_its_shape(guarded: RunningServer) -> None:
    assert set(guarded.get("/api/tags").json()) == {"error"}
    assert isinstance(guarded.get("/api/tags").json()["error"], str)


def test_official_client_passes_with_its_key_and_raises_without(guarded: RunningServer) -> None:
    import openai

    assert guarded.client(api_key="sk-second").models.list().data
    with pytest.raises(openai.AuthenticationError):
        guarded.client(api_key="nope").models.list()


def test_body_over_the_limit_is_a_413_by_its_length(serve: Serve) -> None:
    server = serve(max_body_bytes=1000)
    response = server.post("/v1/completions", {"prompt": "x" * 2000})
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "payload_too_large"
    assert "1000" in response.json()["error"]["message"]
    assert server.post("/v1/completions", {"prompt": "x" * 500, "max_tokens": 1}).status_code == 200


def test_length_that_lies_ahead_is_refused_before_the_body_is_sent(serve: Serve) -> None:
    server = serve(max_body_bytes=1000)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest("POST", "/v1/completions")
    connection.putheader("content-length", str(10**12))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_chunked_body_over_the_limit_is_a_413(serve: Serve) -> None:
    server = serve(max_body_bytes=1000)

    def pieces() -> Iterator[bytes]:
        for _ in range(5):
            yield b" " * 500

    response = httpx.post(server.url + "/v1/completions", content=pieces())
    assert response.status_code == 413


def test_chunked_body_under_the_limit_is_read(serve: Serve) -> None:
    server = serve(max_body_bytes=1000)

    def pieces() -> Iterator[bytes]:
        yield b'{"prompt": "x", '
        yield b'"max_tokens": 1}'

    assert httpx.post(server.url + "/v1/completions", content=pieces()).status_code == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_streams_and_reads_errors(server: RunningServer) -> None:
    def curl(body: str) -> str:
        command = ["curl", "-sN", "-w", "%{http_code}", server.url + "/v1/chat/completions"]
        command += ["-H", "content-type: application/json", "-d", body]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

    streamed = curl('{"messages": [{"role": "user", "content": "hi"}], "stream": true}')
    assert streamed.startswith('data: {"id":"chatcmpl-')
    assert streamed.endswith("data: [DONE]\n\n200")
    assert curl('{"messages": []}').endswith('"code":"invalid_value"}}400')
