"""The application as it is described to Ray Serve, and a replica's health. Only processes of their own import Ray."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.served_process import clean_environment

pytestmark = pytest.mark.slow

REPLICA = """
import asyncio
from pagemill import bootstrap
from pagemill.backends.fake import FakeBackend
from pagemill.settings_layers import load_settings
from pagemill_handlers.ray_serve import ReplicaApp

async def checks(number, between=None):
    replica = ReplicaApp(load_settings({}))
    async with replica._app.router.lifespan_context(replica._app):
        for index in range(number):
            try:
                await replica.check_health()
                print("healthy")
            except Exception as error:
                print(type(error).__name__, error)
            if between is not None and index == 0:
                await between(replica)
"""


def run(program: str, **variables: str) -> str:
    command = [sys.executable, "-c", program]
    environment = clean_environment(**variables)
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def described(args: str, **variables: str) -> list[str]:
    """Name, requests at once and time to end, as Ray Serve has them."""
    program = f"""
from pagemill_handlers.ray_serve import build_app
deployment = build_app({args})._bound_deployment
config = deployment._deployment_config
print(deployment.name, config.max_ongoing_requests, config.graceful_shutdown_timeout_s)
"""
    return run(program, **variables).split()


def test_requests_at_once_and_time_to_end_follow_the_settings() -> None:
    assert described("{}") == ["Pagemill", "16", "35.0"]
    assert described("{'max_num_seqs': '4'}", PAGEMILL_DRAIN_TIMEOUT_S="7") == ["Pagemill", "4", "12.0"]


def test_a_wrong_argument_is_named() -> None:
    program = "from pagemill_handlers.ray_serve import build_app\nbuild_app({'max_num_seqs': 0, 'modle': 'x'})"
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "SettingsError: args.max_num_seqs: " in outcome.stderr
    assert "args.modle: there is no such setting" in outcome.stderr


def test_describing_an_application_loads_no_model_and_no_backend() -> None:
    program = (
        "import sys\nfrom pagemill_handlers.ray_serve import build_app\nbuild_app({'model': 'nowhere'})\n"
        "print(*(name for name in ('torch', 'llama_cpp', 'transformers') if name in sys.modules))"
    )
    assert run(program).split() == []


def test_a_replica_is_healthy_once_its_model_is_loaded() -> None:
    program = """
import time
def load(reference, settings):
    time.sleep(0.3)
    print("loaded")
    return FakeBackend()
bootstrap.load_backend = load
asyncio.run(checks(2))
"""
    assert run(REPLICA + program, PAGEMILL_MODEL="fake").split() == ["loaded", "healthy", "healthy"]


def test_a_replica_whose_model_can_not_be_loaded_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(64))
    output = run(REPLICA + "asyncio.run(checks(1))", PAGEMILL_MODEL=str(tmp_path / "broken.gguf"))
    assert output.startswith("ModelLoadError ")
    assert "broken" in output


def test_a_replica_whose_engine_died_is_unhealthy() -> None:
    program = """
class DyingBackend(FakeBackend):
    def execute(self, plan):
        raise RuntimeError("the GPU fell off the bus")
bootstrap.load_backend = lambda reference, settings: DyingBackend()
import httpx
from pagemill.api.in_process import InProcessTransport
async def ask(replica):
    client = httpx.AsyncClient(transport=InProcessTransport(replica), base_url="http://replica")
    await client.post("/v1/completions", json={"prompt": "hi"})
asyncio.run(checks(2, ask))
"""
    assert run(REPLICA + program, PAGEMILL_MODEL="fake").splitlines() == [
        "healthy",
        "EngineDeadError the engine stopped on an error",
    ]
