"""The command's frame: verbs, help, errors and exit codes."""

import pytest

from cli.conftest import Command
from pagemill import __version__
from pagemill.cli.main import VERBS
from pagemill.settings import Settings
from pagemill.settings_layers import flag_of
from pagemill.validated import fields


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
