"""The clients in JavaScript (`openai`, `ollama`, Vercel's `ai`): the suites of javascript/ by Node's test runner."""

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
JAVASCRIPT = Path(__file__).parent / "javascript"


@pytest.mark.parametrize("suite", sorted(JAVASCRIPT.glob("*.test.js")), ids=lambda path: path.name)
def test_suite_passes(suite: Path, clients_bin: Path, environment: dict[str, str]) -> None:
    assert (JAVASCRIPT / "node_modules").is_dir(), (
        "`make test` installs what tests/clients/javascript/package.json names"
    )
    command: list[str | Path] = [clients_bin / "node", "--test", "--test-reporter=spec", suite]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
