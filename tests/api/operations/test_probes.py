"""What an orchestrator sees of a server's life."""

from pagemill import __version__
from pagemill.backends.fake import EOS, FakeBackend
from support.api_server import RunningServer, Serve, wait_until

LONG_REPLY = (*b"x" * 2000, EOS)


def test_probes_answer_200_when_the_model_is_loaded(server: RunningServer) -> None:
    for path in ("/livez", "/readyz", "/health", "/ping"):
        answer = server.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"}), path


def test_ping_takes_post_too(server: RunningServer) -> None:
    assert server.post("/ping", {}).status_code == 200


def test_version_is_the_packages(server: RunningServer) -> None:
    assert server.get("/version").json() == {"version": __version__}


def test_readiness_waits_for_the_load_and_liveness_does_not(serve: Serve) -> None:
    running = serve(load_delay_s=60, wait_ready=False, retry_after_s=7)
    assert running.get("/livez").status_code == 200
    for path in ("/readyz", "/health", "/ping"):
        answer = running.get(path)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "7"
        assert answer.json()["error"]["message"] == "fake is loading"
        assert answer.json()["error"]["code"] == "model_not_ready"


def test_a_ping_while_loading_has_the_status_that_the_platform_wants(serve: Serve) -> None:
    running = serve(load_delay_s=60, wait_ready=False, ping_loading_status=204)
    answer = running.get("/ping")
    assert (answer.status_code, answer.content) == (204, b"")
    assert running.get("/readyz").status_code == 503


def test_a_dead_engine_makes_health_503_and_leaves_livez_200(serve: Serve) -> None:
    class DyingBackend(FakeBackend):
        def execute(self, plan: object) -> object:  # type: ignore[override]
            raise RuntimeError("the GPU fell off the bus")

    running = serve(DyingBackend())
    running.post("/api/generate", {"model": "fake", "prompt": "hi", "stream": False})
    wait_until(lambda: not running.engine.alive)
    for path in ("/readyz", "/health", "/ping"):
        answer = running.get(path)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "engine_dead"
    assert running.get("/livez").status_code == 200


def test_probes_need_no_key_and_the_rest_does(serve: Serve) -> None:
    running = serve(api_key=("secret",))
    for path in ("/livez", "/readyz", "/health", "/ping"):
        assert running.get(path).status_code == 200
    for path in ("/metrics", "/version", "/load"):
        assert running.get(path).status_code == 401
        assert running.get(path, headers={"authorization": "Bearer secret"}).status_code == 200
