"""The app as it is described to Modal, by Modal's own package; and what its function serves."""

import json
import subprocess
import sys
from typing import Any

import pytest

from support.served_process import clean_environment

pytestmark = pytest.mark.slow

IMAGE = {"PAGEMILL_MODAL_IMAGE": "registry.example.com/pagemill-gpu:1"}

# What Modal's decorators are told is passed on to them, so they judge it, too.
DESCRIBE = """
import json, modal
told = {}
def telling(name, real):
    def asked(*args, **options):
        told[name] = args, options
        return real(*args, **options)
    return asked
modal.App.function = telling("function", modal.App.function)
modal.concurrent = telling("concurrent", modal.concurrent)
modal.asgi_app = telling("asgi_app", modal.asgi_app)
modal.Image.from_registry = telling("image", modal.Image.from_registry)
modal.Secret.from_dict = telling("variables", modal.Secret.from_dict)
from pagemill_handlers import modal_app
function = told["function"][1]
print(json.dumps({
    **{name: value for name, value in function.items() if name not in ("image", "secrets", "volumes")},
    "app": modal_app.app.name,
    "image": told["image"][0][0],
    "num_secrets": len(function["secrets"]),
    "volumes": list(function["volumes"]),
    "variables": told["variables"][0][0],
    **told["concurrent"][1], **told["asgi_app"][1],
}))
"""

SERVE = """
import asyncio, httpx
from pagemill.api.in_process import InProcessTransport
from pagemill_handlers.modal_app import serve

async def ask():
    app = serve.local()
    async with app.router.lifespan_context(app):
        client = httpx.AsyncClient(transport=InProcessTransport(app), base_url="http://modal", timeout=60)
        path, key = "/v1/chat/completions", {"x-api-key": "secret"}
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "temperature": 0}
        refused = await client.post(path, json=body)
        answer = await client.post(path, json=body, headers=key)
        streamed = await client.post(path, json={**body, "stream": True}, headers=key)
        print(refused.status_code, answer.status_code, answer.json()["model"], streamed.text.endswith("[DONE]\\n\\n"))

asyncio.run(ask())
"""


def run(program: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program]
    environment = clean_environment(**variables)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def described(**variables: str) -> dict[str, Any]:
    outcome = run(DESCRIBE, **IMAGE, **variables)
    assert outcome.returncode == 0, outcome.stderr
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


def test_by_default_it_scales_to_zero_without_a_gpu_and_asks_for_modals_key() -> None:
    found = described()
    assert found["app"] == "pagemill"
    assert found["image"] == "registry.example.com/pagemill-gpu:1"
    assert (found["gpu"], found["cpu"], found["memory"], found["volumes"]) == (None, 4.0, 8192, [])
    assert (found["min_containers"], found["max_containers"], found["scaledown_window"]) == (0, None, 60)
    assert found["max_inputs"] == 16
    assert found["requires_proxy_auth"] is True


def test_what_the_variables_ask_for_is_what_modal_is_told() -> None:
    found = described(
        PAGEMILL_MODAL_APP_NAME="llm",
        PAGEMILL_MODAL_GPU="H100:2",
        PAGEMILL_MODAL_CPU="8",
        PAGEMILL_MODAL_MEMORY_MIB="65536",
        PAGEMILL_MODAL_VOLUME="weights",
        PAGEMILL_MODAL_MIN_CONTAINERS="1",
        PAGEMILL_MODAL_MAX_CONTAINERS="3",
        PAGEMILL_MODAL_SCALEDOWN_WINDOW_S="300",
        PAGEMILL_MODAL_STARTUP_TIMEOUT_S="900",
        PAGEMILL_MODAL_TIMEOUT_S="120",
        PAGEMILL_MAX_NUM_SEQS="64",
    )
    assert (found["app"], found["gpu"], found["cpu"], found["memory"]) == ("llm", "H100:2", 8.0, 65536)
    assert (found["min_containers"], found["max_containers"], found["scaledown_window"]) == (1, 3, 300)
    assert (found["startup_timeout"], found["timeout"]) == (900, 120)
    assert (found["volumes"], found["max_inputs"]) == (["/models"], 64)


def test_the_variables_travel_to_the_containers_as_a_secret() -> None:
    found = described(PAGEMILL_MODEL="/models/m.gguf", OTHER="x")
    assert found["variables"] == {**IMAGE, "PAGEMILL_MODEL": "/models/m.gguf"}


def test_with_keys_of_our_own_modals_proxy_asks_for_none() -> None:
    found = described(PAGEMILL_API_KEY="secret")
    assert found["requires_proxy_auth"] is False
    assert found["variables"]["PAGEMILL_API_KEY"] == "secret"
    assert described(PAGEMILL_API_KEY_FILE="/models/keys")["requires_proxy_auth"] is False
    named = described(PAGEMILL_MODAL_SECRET="keys")
    assert named["requires_proxy_auth"] is False
    assert named["num_secrets"] == 2


def test_a_named_secret_without_a_key_leaves_no_open_endpoint() -> None:
    outcome = run(SERVE, **IMAGE, PAGEMILL_MODAL_SECRET="keys", PAGEMILL_MODEL="fake")
    assert outcome.returncode == 1
    assert "PAGEMILL_API_KEY: the secret keys must have it" in outcome.stderr


def test_its_function_serves_the_demo_model() -> None:
    outcome = run(SERVE, **IMAGE, PAGEMILL_API_KEY="secret", PAGEMILL_THREADS="2")
    assert outcome.stdout.split() == ["401", "200", "grist", "True"], outcome.stderr


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "PAGEMILL_MODAL_IMAGE: name an image"),
        ({**IMAGE, "PAGEMILL_MODAL_CPU": "0"}, "PAGEMILL_MODAL_CPU: "),
        ({**IMAGE, "PAGEMILL_MODAL_GPUS": "L4"}, "PAGEMILL_MODAL_GPUS: there is no such setting"),
        ({**IMAGE, "PAGEMILL_PORT": "x"}, "PAGEMILL_PORT: "),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_deployed(variables: dict[str, str], said: str) -> None:
    outcome = run("import pagemill_handlers.modal_app", **variables)
    assert outcome.returncode == 1
    assert said in outcome.stderr


def test_describing_it_loads_no_model_and_no_backend() -> None:
    program = (
        "import sys, pagemill_handlers.modal_app\n"
        "print(*(name for name in ('torch', 'llama_cpp', 'transformers', 'jinja2') if name in sys.modules))"
    )
    outcome = run(program, **IMAGE, PAGEMILL_MODEL="nowhere")
    assert (outcome.returncode, outcome.stdout.split()) == (0, []), outcome.stderr
