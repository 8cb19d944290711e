"""What importing the handler must not load: its cold start hangs on it."""

import subprocess
import sys

import pytest

SHOW = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
HEAVY = {"torch", "llama_cpp", "transformers", "numpy", "boto3", "botocore", "awslambdaric", "httpx", "uvicorn"}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("pagemill_handlers.aws_lambda", {"pagemill", "starlette", "asyncio", "mangum"}),
        ("pagemill_handlers.aws_lambda.__main__", {"starlette", "asyncio", "mangum"}),
        ("pagemill_handlers.aws_lambda.runtime", {"mangum"}),
        ("pagemill_handlers.aws_lambda.background", set[str]()),
    ],
)
def test_importing_it_loads_nothing_heavy(module: str, forbidden: set[str]) -> None:
    command = [sys.executable, "-c", f"import {module}\n{SHOW}"]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split())
    assert "pagemill_handlers" in loaded
    assert loaded & (HEAVY | forbidden) == set()


def test_serving_a_stream_loads_neither_mangum_nor_a_tier_that_is_not_used() -> None:
    program = (
        "from pagemill.bootstrap import build_app, build_pool\n"
        "from pagemill.settings_layers import load_settings\n"
        "settings = load_settings({}, {'PAGEMILL_MODEL': 'fake'})\n"
        "build_app(settings, build_pool(settings, load_at_once=True))\n"
        "import pagemill_handlers.aws_lambda.runtime, pagemill_handlers.aws_lambda.streamed\n"
    )
    command = [sys.executable, "-c", program + SHOW]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split())
    assert loaded & (HEAVY | {"mangum"}) == set()
