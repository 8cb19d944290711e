"""What a pull that fails is answered with: a status that says whose fault it was; streamed, a last line."""

import errno
import json
import os
import shutil
import socket
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.api_server import RunningServer, running_server
from support.fake_registry import FakeRegistry, fake_registry
from support.openapi import DocumentedAnswers
from support.registry_models import digest_of

GGUF = b"GGUF" + bytes(10**5)
Break = Callable[[FakeRegistry, pytest.MonkeyPatch], str]  # what goes wrong; the name that is to be pulled


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as running:
        running.put(GGUF)
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(
        models_dir=str(tmp_path), manage_models=True, registries=("*",), download_retries=0, download_timeout_s=30
    ) as running:
        yield running


def unknown(registry: FakeRegistry, patch: pytest.MonkeyPatch) -> str:
    return registry.name("nothing")


def unreachable(registry: FakeRegistry, patch: pytest.MonkeyPatch) -> str:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"127.0.0.1:{closed.getsockname()[1]}/library/tiny"


def failing(registry: FakeRegistry, patch: pytest.MonkeyPatch) -> str:
    registry.statuses = [500]
    return registry.name()


def no_registry(registry: FakeRegistry, patch: pytest.MonkeyPatch) -> str:
    registry.manifests["library/tiny:latest"] = b"<html>"
    return registry.name()


def damaged(registry: FakeRegistry, patch: pytest.MonkeyPatch) -> str:
    registry.blobs[digest_of(GGUF)] = GGUF[:-1] + b"!"
    return registry.name()


def without_ranges(registry: FakeRegistry, patch: pytest.MonkeyPatch) -> str:
    registry.put(GGUF * 100)  # in several parts
    registry.answers_whole = True
    return registry.name()


def without_tokens(registry: FakeRegistry, patch: pytest.MonkeyPatch) -> str:
    registry.wants_token, registry.token = True, b"{}"
    return registry.name()


def no_room(registry: FakeRegistry, patch: pytest.MonkeyPatch) -> str:
    usage = namedtuple("usage", "total used free")
    patch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**3))
    return registry.name()


def full_while_it_comes(registry: FakeRegistry, patch: pytest.MonkeyPatch) -> str:
    def full(descriptor: int, data: bytes, position: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(os, "pwrite", full)
    return registry.name()


def no_writing(registry: FakeRegistry, patch: pytest.MonkeyPatch) -> str:
    def refuse(descriptor: int, data: bytes, position: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    patch.setattr(os, "pwrite", refuse)
    return registry.name()


@pytest.mark.parametrize(
    ("go_wrong", "status", "said"),
    [
        (unknown, 404, "pull model manifest: file does not exist: 127.0.0.1:"),
        (unreachable, 502, "pull model manifest: can't fetch 127.0.0.1:"),
        (failing, 502, "answers HTTP 500 for 127.0.0.1:"),
        (no_registry, 502, "is no manifest of a model"),
        (damaged, 502, "came damaged, or is another file than was asked for"),
        (without_ranges, 502, "answers a request for a range with the whole"),
        (without_tokens, 502, "was asked for a token and answers with none"),
        (no_room, 507, "MB are free; make room there, or set models_dir to another folder"),
        (full_while_it_comes, 507, "No space left on device"),
        (no_writing, 500, "Input/output error"),
    ],
)
def test_a_failed_pull_has_a_status_and_streamed_a_last_line(
    server: RunningServer,
    registry: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
    go_wrong: Break,
    status: int,
    said: str,
) -> None:
    body = {"model": go_wrong(registry, monkeypatch), "insecure": True}
    whole = server.post("/api/pull", {**body, "stream": False})
    assert (whole.status_code, said in whole.json()["error"]) == (status, True), whole.text
    DocumentedAnswers(server.get("/openapi.json").json()).check("POST /api/pull", whole)
    go_wrong(registry, monkeypatch)  # once more
    streamed = server.post("/api/pull", body)
    assert streamed.status_code == 200
    assert said in json.loads(streamed.text.splitlines()[-1])["error"]
