"""pull, cp and rm: by a server that runs, or in a folder of this machine."""

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pexpect
import pytest

from cli.conftest import Command
from pagemill.cli.main import EXIT_FAILED
from support.api_server import RunningServer, running_server
from support.fake_registry import FakeRegistry, fake_registry
from support.registry_models import digest_of, manifest_path, write_model
from support.served_process import clean_environment, served_process

GGUF = b"GGUF" + bytes(10**5)


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as running:
        running.put(GGUF)
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(models_dir=str(tmp_path), manage_models=True, registries=("*",)) as running:
        yield running


@pytest.fixture(params=["server", "folder"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """The flags that say where the models are, in `tmp_path` either way."""
    if request.param == "server":
        return ("--server", request.getfixturevalue("server").url)
    return ("--models-dir", str(tmp_path))


def manifest(models_dir: Path, registry: FakeRegistry) -> Path:
    return manifest_path(models_dir, "tiny", owner=f"{registry.host}/library")


def allowed(where: tuple[str, ...]) -> tuple[str, ...]:
    """With what a folder also needs to be pulled into from a registry of tests."""
    return (*where, "--registries", "*")


def test_pull_tells_each_step_once(
    pagemill: Command, where: tuple[str, ...], registry: FakeRegistry, tmp_path: Path
) -> None:
    outcome = pagemill("pull", registry.name(), "--insecure", *allowed(where))
    assert outcome.code == 0, outcome.err
    steps = outcome.err.splitlines()
    assert (steps[0], steps[-1]) == ("pulling manifest", "success")
    assert steps.count(f"pulling {digest_of(GGUF)[7:19]}") == 1
    assert manifest(tmp_path, registry).is_file()


def test_cp_and_rm_change_names(pagemill: Command, where: tuple[str, ...], tmp_path: Path) -> None:
    write_model(tmp_path, "tiny", GGUF)
    assert pagemill("cp", "tiny", "my/own:q8", *where).out == "copied tiny to my/own:q8\n"
    assert manifest_path(tmp_path, "own", "q8", "registry.ollama.ai/my").is_file()
    assert pagemill("rm", "tiny", "my/own:q8", *where).out == "deleted tiny\ndeleted my/own:q8\n"
    assert list((tmp_path / "blobs").iterdir()) == []


@pytest.mark.parametrize("arguments", [("cp", "nothing", "x"), ("rm", "nothing")])
def test_what_is_not_there_fails(pagemill: Command, where: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    outcome = pagemill(*arguments, *where)
    assert outcome.code == EXIT_FAILED
    assert "model 'nothing" in outcome.err
    assert "not found" in outcome.err


def test_a_pull_of_what_the_registry_lacks_fails(
    pagemill: Command, where: tuple[str, ...], registry: FakeRegistry
) -> None:
    outcome = pagemill("pull", registry.name("nothing"), "--insecure", *allowed(where))
    assert (outcome.code, "file does not exist: " in outcome.err) == (EXIT_FAILED, True)


def test_a_pull_that_finds_no_registry_says_which(pagemill: Command, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        host = f"127.0.0.1:{closed.getsockname()[1]}"
    folder = ("--models-dir", str(tmp_path), "--registries", "*", "--download-retries", "0")
    outcome = pagemill("pull", f"{host}/library/tiny", "--insecure", *folder)
    assert outcome.code == EXIT_FAILED
    assert f"pull model manifest: can't fetch {host}/library/tiny:latest from {host}: " in outcome.err


def test_other_registries_are_asked_only_if_a_setting_names_them(
    pagemill: Command, registry: FakeRegistry, tmp_path: Path
) -> None:
    outcome = pagemill("pull", registry.name(), "--insecure", "--models-dir", str(tmp_path))
    assert outcome.code == EXIT_FAILED
    assert f"not from {registry.host} (registries)" in outcome.err


@pytest.mark.parametrize("arguments", [("pull", "x"), ("cp", "x", "y"), ("rm", "x")])
def test_without_a_server_and_a_folder_both_are_named(pagemill: Command, arguments: tuple[str, ...]) -> None:
    outcome = pagemill(*arguments)
    assert outcome.code == EXIT_FAILED
    assert "no server answers at http://127.0.0.1:9" in outcome.err
    assert "--models-dir" in outcome.err


def test_the_folder_may_be_that_of_the_environment(
    pagemill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path, "tiny", GGUF)
    monkeypatch.setenv("PAGEMILL_MODELS_DIR", str(tmp_path))
    assert pagemill("rm", "tiny").out == "deleted tiny\n"


def test_on_a_terminal_there_is_a_bar(registry: FakeRegistry, tmp_path: Path) -> None:
    flags = f"--insecure --models-dir {tmp_path} --registries *"
    command = f"-m pagemill pull {registry.name()} {flags}"
    child = pexpect.spawn(sys.executable, command.split(), encoding="utf-8", timeout=30, env=clean_environment())
    child.expect("pulling manifest")
    child.expect("100%")
    child.expect("success")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        ((), 404),
        (("--no-manage-models",), 403),
        (("--host", "0.0.0.0"), 403),
        (("--host", "0.0.0.0", "--manage-models"), 404),
    ],
)
def test_serve_lets_this_machine_change_its_models_but_not_others(
    tmp_path: Path, flags: tuple[str, ...], status: int
) -> None:
    with served_process("--models-dir", str(tmp_path), "--port", "0", *flags, step_delay_s=None) as served:
        url = served.address.replace("0.0.0.0", "127.0.0.1")
        refused = httpx.request("DELETE", f"{url}/api/delete", json={"model": "x"}, trust_env=False)
        assert refused.status_code == status


def test_a_pull_does_not_hold_up_the_end_of_a_server(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.held_from = 0
    try:
        flags = ("--models-dir", str(tmp_path), "--registries", "*", "--port", "0")
        with served_process(*flags, step_delay_s=None) as served:
            body = {"model": registry.name(), "insecure": True}
            with httpx.stream("POST", f"{served.address}/api/pull", json=body, trust_env=False) as response:
                lines = response.iter_lines()
                while not json.loads(next(lines)).get("completed"):
                    pass
                served.process.terminate()
                *_others, last = lines
            assert "shutting down" in json.loads(last)["error"]
            assert served.process.wait(10) == 0
    finally:
        registry.held_from = None
