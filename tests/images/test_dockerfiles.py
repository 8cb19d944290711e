"""What every Dockerfile must hold to, read from its text. The other tests here look at what comes of it."""

import json
import re
from pathlib import Path

import pytest
from images.build import FOLDER, IMAGES, ROOT

LABELS = ("title", "description", "licenses", "version", "revision", "created", "source")
BUILD_ARGUMENTS = ("BASE", "INDEX", "VERSION", "REVISION", "CREATED", "SOURCE")
COMPILERS = re.compile(r"\b(gcc|g\+\+|clang|cmake|make|ninja|build-essential|\S+-dev)\b")


def instructions(image: str) -> list[tuple[str, str]]:
    """(INSTRUCTION, arguments) in order, continuation lines joined, comments left out."""
    lines = (FOLDER / image / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    split = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(name, arguments.strip()) for name, arguments in split]


def stages(image: str) -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage by its name; the last one's is ""."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, arguments in instructions(image):
        if name == "FROM":
            match = re.fullmatch(r"(\S+)(?: AS (\S+))?", arguments)
            assert match, arguments
            found[match[2] or ""] = []
        if found:
            found[list(found)[-1]].append((name, arguments))
    return found


def last_stage(image: str) -> list[tuple[str, str]]:
    """All that makes the final file system: the last stage, and the stages that it is built on."""
    found = stages(image)
    chain = found[""]
    while (parent := chain[0][1].split()[0]) in found:
        chain = found[parent] + chain
    assert chain[0][1].split()[0] == "${BASE}"
    return chain


def last(image: str, name: str) -> str:
    return [arguments for instruction, arguments in last_stage(image) if instruction == name][-1]


def test_there_is_one_for_each_target() -> None:
    assert IMAGES == ("cpu", "gpu", "lambda-cpu", "ray")


@pytest.mark.parametrize("image", IMAGES)
def test_every_stage_stands_on_the_base_argument_or_on_another_stage(image: str) -> None:
    found = stages(image)
    assert len(found) > 2, "it is not multi-stage"
    for stage in found.values():
        assert stage[0][1].split()[0] in ("${BASE}", *found)


@pytest.mark.parametrize("image", IMAGES)
def test_the_arguments_have_defaults_that_name_a_version(image: str) -> None:
    given = dict(arguments.partition("=")[::2] for name, arguments in instructions(image) if name == "ARG")
    assert set(BUILD_ARGUMENTS) <= set(given)
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+", given["BASE"])
    assert given["INDEX"] == "https://pypi.org/simple"


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_is_compiled_or_installed_by_pip_in_the_last_stage(image: str) -> None:
    for name, arguments in last_stage(image):
        if name == "RUN":
            assert not COMPILERS.search(arguments), arguments
            assert not re.search(r"\bpip\b", arguments)


@pytest.mark.parametrize("image", IMAGES)
def test_it_runs_as_a_numbered_user_that_is_not_root(image: str) -> None:
    # Kubernetes can't tell of a name whether it is root's.
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", last(image, "USER"))
    assert last_stage(image).index(("USER", last(image, "USER"))) > max(
        index for index, (name, _) in enumerate(last_stage(image)) if name in ("RUN", "COPY")
    )


@pytest.mark.parametrize("image", IMAGES)
def test_the_entry_point_is_no_shell(image: str) -> None:
    for name in ("ENTRYPOINT", "CMD"):
        for arguments in (given for instruction, given in stages(image)[""] if instruction == name):
            parts = json.loads(arguments)  # the exec form is JSON
            assert parts
            assert parts[0] not in ("sh", "bash", "/bin/sh")
    assert last(image, "ENTRYPOINT")


@pytest.mark.parametrize("image", IMAGES)
def test_it_is_labelled(image: str) -> None:
    labels = last(image, "LABEL")
    for name in LABELS:
        assert re.search(rf'org\.opencontainers\.image\.{name}="[^"]+"', labels), name
    assert f'image.title="pagemill-{image}"' in labels


@pytest.mark.parametrize("image", IMAGES)
def test_apt_installs_no_more_than_is_named_and_leaves_no_lists(image: str) -> None:
    for name, arguments in instructions(image):
        if name == "RUN" and "apt-get install" in arguments:
            assert "apt-get update &&" in arguments
            assert "--no-install-recommends" in arguments
            assert "rm -rf /var/lib/apt/lists/*" in arguments


@pytest.mark.parametrize("image", IMAGES)
def test_no_heredocs_and_no_secrets(image: str) -> None:
    text = (FOLDER / image / "Dockerfile").read_text()
    assert "<<" not in text, "buildah before 1.33 has none"
    assert not re.search(r"(?i)(password|token|secret|api_key)\s*=", text)


def test_the_context_is_what_the_images_copy() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = {
        source
        for image in IMAGES
        for name, arguments in instructions(image)
        if name == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    }
    for source in copied:
        assert (ROOT / source).exists()
        assert any(Path(source).is_relative_to(path) for path in allowed), source
    for path in allowed:
        assert any(Path(source).is_relative_to(path) for source in copied), path
