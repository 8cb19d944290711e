"""The snippets of docs/clients.md: each runs as it stands, and prints what it says."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.test_javascript import JAVASCRIPT

pytestmark = pytest.mark.slow
GUIDE = Path(__file__).parents[2] / "docs" / "clients.md"
SNIPPET = re.compile(
    r"^(?:#+ (?P<title>[^\n]*)|```(?P<language>python|js)\n(?P<program>.*?)^```)$", re.MULTILINE | re.DOTALL
)
PRINTED = re.compile(r"^(?:print|console\.log)\(.*\)(?:;| ) ?(?:#|//) (.*)$", re.MULTILINE)
OPTIONS = {"python": ["-c"], "js": ["--input-type=module", "--eval"]}
PROGRAMS = {"python": "python", "js": "node"}


def snippets() -> Iterator[object]:
    """Each with its language, named by the heading above it."""
    title = ""
    for found in SNIPPET.finditer(GUIDE.read_text()):
        title = found["title"] or title
        if found["program"]:
            yield pytest.param(found["language"], found["program"], id=f"{title} in {found['language']}")


@pytest.mark.parametrize(("language", "program"), list(snippets()))
def test_snippet_prints_what_it_says(
    language: str, program: str, clients_bin: Path, environment: dict[str, str]
) -> None:
    assert (printed := PRINTED.findall(program))
    program = program.replace("http://127.0.0.1:11434", environment["SERVER_URL"])
    command = [str(clients_bin / PROGRAMS[language]), *OPTIONS[language], program]
    # JavaScript finds its packages from the folder where it runs.
    done = subprocess.run(command, capture_output=True, text=True, cwd=JAVASCRIPT, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == printed
