"""What importing the worker must not load before the model's load has begun: RunPod's package takes a second."""

import subprocess
import sys

import pytest

SHOW = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("pagemill_handlers.runpod_queue", {"pagemill", "asyncio"}),
        ("pagemill_handlers.runpod_queue.__main__", {"runpod", "starlette", "httpx", "asyncio"}),
        ("pagemill_handlers.runpod_queue.worker", {"runpod", "torch", "llama_cpp", "numpy"}),
    ],
)
def test_importing_it_loads_only_what_it_needs(module: str, forbidden: set[str]) -> None:
    command = [sys.executable, "-c", f"import {module}\n{SHOW}"]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split())
    assert "pagemill_handlers" in loaded
    assert loaded & forbidden == set()
