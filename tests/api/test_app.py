"""The app as a whole: routing errors, unavailability, start and shutdown."""

import threading
import time

import httpx
import pytest

from pagemill.backends.fake import FakeBackend
from pagemill.engine.engine import EngineConfig
from support.api_server import RunningServer, Serve, running_server, wait_until

ENDLESS = {"prompt": "x", "max_tokens": 4000, "ignore_eos": True, "temperature": 0}


def test_unknown_route_is_a_404_in_the_dialects_shape(server: RunningServer) -> None:
    openai_shaped = server.get("/v1/nothing")
    assert openai_shaped.status_code == 404
    assert openai_shaped.json()["error"]["code"] == "not_found"
    ollama_shaped = server.get("/api/nothing")
    assert ollama_shaped.status_code == 404
    assert isinstance(ollama_shaped.json()["error"], str)


def test_wrong_method_is_a_405_with_allow(server: RunningServer) -> None:
    response = server.get("/v1/chat/completions")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.json()["error"]["code"] == "method_not_allowed"
    assert isinstance(server.get("/api/chat").json()["error"], str)


def test_full_queue_is_a_503_with_retry_after(serve: Serve) -> None:
    server = serve(
        FakeBackend(max_num_seqs=1, step_delay_s=0.01), config=EngineConfig(max_num_queued_reqs=0, retry_after_s=7)
    )
    with httpx.stream("POST", server.url + "/v1/completions", json={**ENDLESS, "stream": True}) as running:
        lines = running.iter_lines()
        next(lines)
        for stream in (False, True):
            response = server.post("/v1/completions", {"prompt": "x", "stream": stream})
            assert response.status_code == 503
            assert response.headers["retry-after"] == "7"
            assert response.json()["error"]["code"] == "queue_full"
    wait_until(lambda: server.engine.num_unfinished() == 0)
    assert server.post("/v1/completions", {"prompt": "x"}).status_code == 200


def test_request_waits_for_the_load(serve: Serve) -> None:
    server = serve(load_delay_s=2.0, wait_ready=False)
    assert server.get("/livez").status_code == 200
    assert server.get("/readyz").status_code == 503
    assert server.post("/v1/completions", {"prompt": "x", "max_tokens": 1}).status_code == 200
    assert server.get("/readyz").status_code == 200


def test_unknown_exception_is_a_bare_500_that_is_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()

    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(server.engine, "generate", fail)
    for stream in (False, True):
        response = server.post("/v1/completions", {"prompt": "x", "stream": stream}, headers={"x-request-id": "r-1"})
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "internal_error"
        assert "secret" not in response.text
        assert "r-1" in response.json()["error"]["message"]
    assert "secret detail" in caplog.text


def test_shutdown_lets_a_running_stream_end() -> None:
    results: list[str] = []
    with running_server(FakeBackend(step_delay_s=0.01)) as server:
        body = {"prompt": "x", "max_tokens": 40, "temperature": 0, "stream": True}
        thread = threading.Thread(target=lambda: results.append(server.post("/v1/completions", body).text))
        thread.start()
        wait_until(lambda: server.engine.num_unfinished() == 1)
    thread.join()
    assert results[0].endswith("data: [DONE]\n\n")
    assert server.backend.closed


def test_shutdown_cuts_off_what_does_not_end() -> None:
    failures: list[Exception] = []

    def post() -> None:
        try:
            server.post("/v1/completions", ENDLESS)
        except httpx.HTTPError as error:
            failures.append(error)

    with running_server(FakeBackend(step_delay_s=0.01), drain_timeout_s=0.1) as server:
        thread = threading.Thread(target=post)
        thread.start()
        wait_until(lambda: server.engine.num_unfinished() == 1)
        start = time.monotonic()
    thread.join()
    assert time.monotonic() - start < 10
    assert server.backend.closed
    assert server.engine.num_unfinished() == 0


def test_failed_load_is_answered_and_not_served(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    from pagemill.errors import ModelLoadError

    class Broken(FakeBackend):
        def new_kv_cache(self, **options: object) -> None:  # type: ignore[override]
            raise ModelLoadError("x.gguf: no such tensor")

    server = serve(Broken(), wait_ready=False)
    wait_until(lambda: not server.pool.loading)
    response = server.post("/v1/completions", {"prompt": "x"})
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "model_load_failed"
    assert server.get("/livez").status_code == 200
