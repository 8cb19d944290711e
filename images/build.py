"""Builds the images with docker, podman or buildah, whichever is there: `make images`, or

    python -m images.build [IMAGE ...] [--base REF] [--index URL] [--builder PROGRAM] [--name NAME] [--arg NAME=VALUE]

Owns no state. What an image is made of is in its Dockerfile; here is only what a Dockerfile can't know: the version,
the commit and the time.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pagemill import __version__

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
IMAGES = tuple(sorted(path.parent.name for path in FOLDER.glob("*/Dockerfile")))
# docker would add attestations, and Lambda refuses an image with any. The bill of materials is inside.
ENVIRONMENT = {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
BUILDERS = ("docker", "podman", "buildah")


def build_arguments(image: str, tag: str, arguments: Mapping[str, str]) -> list[str]:
    """What follows `docker build`, and likewise podman's and buildah's."""
    given = {"VERSION": __version__, **_commit(), **arguments}
    options = [part for name, value in given.items() for part in ("--build-arg", f"{name}={value}")]
    return [*options, "--file", str(FOLDER / image / "Dockerfile"), "--tag", tag, str(ROOT)]


def _commit() -> dict[str, str]:
    """The commit and its time, so that one commit's images are alike; "-dirty" if files differ from it."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    described = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True)
    if described.returncode:  # built from a release, not from a clone
        return {}
    time = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, check=True, capture_output=True, text=True)
    created = datetime.fromtimestamp(int(time.stdout), UTC)
    return {"REVISION": described.stdout.strip(), "CREATED": created.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _builder(named: str | None) -> str:
    """The program to build with.

    Raises:
        SystemExit: none of them is on the PATH.
    """
    for program in (named,) if named else BUILDERS:
        if shutil.which(program):
            return program
    sys.exit(f"no {' or '.join([named] if named else BUILDERS)} on the PATH to build images with")


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m images.build", description="build Pagemill's images")
    parser.add_argument("IMAGE", nargs="*", help=f"default: all, {', '.join(IMAGES)}")
    parser.add_argument("--base", help="image to build on (default: as in the Dockerfiles)")
    parser.add_argument("--index", help="where pip takes packages from (default: PyPI)")
    parser.add_argument("--builder", choices=BUILDERS, help="default: the first of them that is there")
    parser.add_argument("--name", default="pagemill", help="images become NAME:IMAGE (%(default)s)")
    parser.add_argument(
        "--arg", action="append", default=[], metavar="NAME=VALUE", help="further build arguments, such as EXTRAS"
    )
    parsed = parser.parse_args(arguments)
    if unknown := [image for image in parsed.IMAGE if image not in IMAGES]:
        parser.error(f"no image is called {unknown[0]!r}; there are {', '.join(IMAGES)}")
    if wrong := [pair for pair in parsed.arg if "=" not in pair]:
        parser.error(f"--arg {wrong[0]!r} is not NAME=VALUE")
    return parsed


def main(arguments: Sequence[str] | None = None) -> None:
    parsed = _parsed(arguments)
    builder = _builder(parsed.builder)
    given = {"BASE": parsed.base, "INDEX": parsed.index} | dict(pair.split("=", 1) for pair in parsed.arg)
    for image in parsed.IMAGE or IMAGES:
        options = build_arguments(
            image, f"{parsed.name}:{image}", {name: value for name, value in given.items() if value is not None}
        )
        print(f"building {parsed.name}:{image} with {builder}", flush=True)
        if code := subprocess.run([builder, "build", *options], env={**os.environ, **ENVIRONMENT}).returncode:
            sys.exit(code)


if __name__ == "__main__":
    main()
