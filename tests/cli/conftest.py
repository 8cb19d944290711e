"""The command run in this process, with its output captured."""

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pagemill.cli import run, show
from pagemill.cli.main import main


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the command gave."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def pagemill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `pagemill` with arguments and standard input; logging stays as pytest has it."""
    for name in ("HOST", "PORT", "UDS", "API_KEY", "MODEL"):
        monkeypatch.delenv(f"PAGEMILL_{name}", raising=False)
    monkeypatch.setenv("PAGEMILL_PORT", "9")  # nothing listens there
    for module in (run, show):
        monkeypatch.setattr(module, "configure_logging", lambda level: None)

    def command(*arguments: str, stdin: str = "") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            code = main(arguments)
        except SystemExit as ended:  # argparse's own way out
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return command
