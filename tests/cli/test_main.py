"""The command's frame: verbs, help, errors and exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from cli.conftest import Command
from pagemill import __version__
from pagemill.cli import run
from pagemill.cli.main import VERBS, main
from pagemill.settings import Settings
from pagemill.settings_layers import flag_of
from pagemill.validated import fields
from support.served_process import clean_environment


def test_help_names_every_verb(pagemill: Command) -> None:
    outcome = pagemill("--help")
    assert outcome.code == 0
    assert [verb.name for verb in VERBS if f"    {verb.name} " not in outcome.out] == []


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_has_help(pagemill: Command, verb: str) -> None:
    outcome = pagemill(verb, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"usage: pagemill {verb}")


def test_help_of_serve_names_every_setting(pagemill: Command) -> None:
    text = pagemill("serve", "--help").out
    assert [name for name in fields(Settings) if flag_of(name) not in text] == []


def test_no_verb_prints_help_and_is_wrong_usage(pagemill: Command) -> None:
    outcome = pagemill()
    assert outcome.code == 2
    assert "usage: pagemill" in outcome.err


def test_an_unknown_verb_is_wrong_usage(pagemill: Command) -> None:
    outcome = pagemill("srve")
    assert outcome.code == 2
    assert "'srve'" in outcome.err


def test_a_wrong_setting_is_one_line_and_exit_code_2(pagemill: Command) -> None:
    outcome = pagemill("serve", "--port", "many")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "--port" in outcome.err
    assert "'many'" in outcome.err


def test_two_different_models_are_wrong_usage(pagemill: Command) -> None:
    outcome = pagemill("serve", "one", "--model", "two")
    assert outcome.code == 2
    assert "'one'" in outcome.err
    assert "'two'" in outcome.err


@pytest.mark.parametrize("arguments", [("list",), ("ps",), ("stop", "grist")])
def test_without_a_server_client_verbs_fail_in_one_line(pagemill: Command, arguments: tuple[str, ...]) -> None:
    outcome = pagemill(*arguments)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.count("\n") == 1
    assert "no server answers at http://127.0.0.1:9" in outcome.err


def test_version_without_a_server_is_the_clients(pagemill: Command) -> None:
    outcome = pagemill("version")
    assert (outcome.code, outcome.out) == (0, f"pagemill {__version__}\n")


def test_version_of_a_named_server_that_is_not_there_fails(pagemill: Command) -> None:
    outcome = pagemill("version", "--server", "127.0.0.1:9")
    assert outcome.code == 1
    assert "no server answers" in outcome.err


@pytest.mark.parametrize("server", ["foo://gpu", "http://[::1", "gpu:port"])
def test_a_server_that_is_no_address_fails_in_one_line(pagemill: Command, server: str) -> None:
    outcome = pagemill("ps", "--server", server)
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert server in outcome.err


def test_a_prompt_that_is_no_text_fails_in_one_line(pagemill: Command) -> None:
    outcome = pagemill("run", "grist", "caf\udce9")  # how Python shows a byte that is no UTF-8
    assert outcome.code == 1
    assert outcome.err.startswith("pagemill: the prompt is no text in utf-8: ")
    assert outcome.err.count("\n") == 1


def test_output_that_can_not_be_written_fails_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "pagemill", "version"]
        outcome = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=clean_environment())
    assert outcome.returncode == 1
    assert outcome.stderr == "pagemill: [Errno 28] No space left on device\n"


def test_with_its_input_closed_run_answers_what_its_arguments_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(run, "configure_logging", lambda level: None)
    monkeypatch.setenv("PAGEMILL_PORT", "9")  # nothing listens there
    assert main(["run", "fake", "hello"]) == 0
