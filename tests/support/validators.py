"""The validators that run as processes, and where they are.

Owns no state. `.venv-infra` holds those that can't be in the environment that runs the tests; `make test` makes it.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
INFRA_BIN = ROOT / ".venv-infra" / "bin"


def clean_environment() -> dict[str, str]:
    """Enough to run a program: no credentials and no configuration of whoever runs the tests."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


def checkov(framework: str, paths: Sequence[Path]) -> Any:
    """checkov's report on the files. It looks at nothing outside them."""
    program = INFRA_BIN / "checkov"
    assert program.exists(), f"{program} is missing: `make test` installs infra/requirements.txt there"
    command: list[str | Path] = [program, "--framework", framework, "--output", "json", "--skip-download"]
    for path in paths:
        command += ["--file", path]
    environment = clean_environment() | {"PATH": f"{INFRA_BIN}:{os.environ['PATH']}", "LOG_LEVEL": "ERROR"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def kustomize(folder: Path) -> str:
    """The manifests that the kustomization in the folder makes."""
    program = shutil.which("kustomize")
    command = [program, "build"] if program else [shutil.which("kubectl") or "", "kustomize"]
    assert command[0], "neither kustomize nor kubectl is installed; either renders infra/kubernetes"
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, env=clean_environment())
    assert done.returncode == 0, done.stderr
    return done.stdout
