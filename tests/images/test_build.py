"""`python -m images.build`, with a program on the PATH that notes how it is called in place of docker."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from images.build import IMAGES, ROOT

from pagemill import __version__


def run_build(folder: Path, *arguments: str, program: str = "docker", code: int = 0) -> tuple[int, list[list[str]]]:
    """The exit code, and how the builder was called, an argument a line."""
    calls = folder / "calls"
    path = folder / program
    path.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" "attestations $BUILDX_NO_DEFAULT_ATTESTATIONS" -- >> "{calls}"\nexit {code}\n'
    )
    path.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.path.dirname(sys.executable)}:/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-m", "images.build", *arguments], cwd=ROOT, env=environment)
    blocks = calls.read_text().split("--\n") if calls.exists() else []
    return done.returncode, [block.splitlines() for block in blocks if block]


def arguments_of(call: list[str]) -> dict[str, str]:
    pairs = (value for name, value in pairwise(call) if name == "--build-arg")
    return dict(pair.split("=", 1) for pair in pairs)


def test_all_images_are_built_with_version_commit_and_time(tmp_path: Path) -> None:
    code, calls = run_build(tmp_path)
    assert code == 0
    assert [call[call.index("--tag") + 1] for call in calls] == [f"pagemill:{image}" for image in IMAGES]
    for image, call in zip(IMAGES, calls, strict=True):
        assert call[0] == "build"
        assert call[call.index("--file") + 1] == str(ROOT / "images" / image / "Dockerfile")
        assert call[-2:] == [str(ROOT), "attestations 1"]
        given = arguments_of(call)
        assert given["VERSION"] == __version__
        assert set(given) <= {"VERSION", "REVISION", "CREATED"}, "the Dockerfiles' own defaults are passed over"


def test_what_is_asked_for_is_passed_on(tmp_path: Path) -> None:
    code, calls = run_build(
        tmp_path, "cpu", "--base", "local/base:1", "--index", "https://example.org/simple", "--name", "mine",
        "--arg", "EXTRAS=gguf,aws",
    )  # fmt: skip
    assert code == 0
    (call,) = calls
    assert call[call.index("--tag") + 1] == "mine:cpu"
    given = arguments_of(call)
    assert (given["BASE"], given["INDEX"]) == ("local/base:1", "https://example.org/simple")
    assert given["EXTRAS"] == "gguf,aws"


def test_a_build_that_fails_ends_it_with_its_code(tmp_path: Path) -> None:
    code, calls = run_build(tmp_path, "cpu", "gpu", code=7)
    assert code == 7
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nowhere"], "nowhere"), (["--arg", "EXTRAS"], "'EXTRAS' is not NAME=VALUE"), (["--builder", "make"], "make")],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, calls = run_build(tmp_path, *arguments)
    assert code == 2
    assert message in capfd.readouterr().err
    assert calls == []
