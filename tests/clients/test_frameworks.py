"""LangChain, LiteLLM, instructor and pydantic-ai, end to end: frameworks/ in an environment of its own."""

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
FRAMEWORKS = Path(__file__).parent / "frameworks"


@pytest.mark.parametrize("suite", sorted(FRAMEWORKS.glob("test_*.py")), ids=lambda path: path.stem)
def test_suite_passes(suite: Path, clients_bin: Path, environment: dict[str, str]) -> None:
    command: list[str | Path] = [clients_bin / "python", "-m", "pytest", "-q", suite]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
