"""Which server a client verb talks to."""

import argparse

import pytest

from pagemill.cli.failure import CommandError
from pagemill.cli.server_address import api_key, server_address


def arguments(server: str | None = None, key: str | None = None) -> argparse.Namespace:
    return argparse.Namespace(server=server, client_api_key=key)


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({}, "http://127.0.0.1:11434"),
        ({"PAGEMILL_PORT": "80"}, "http://127.0.0.1:80"),
        ({"PORT": "80"}, "http://127.0.0.1:80"),
        ({"PORT": "80", "PAGEMILL_PORT": "81"}, "http://127.0.0.1:81"),
        ({"PAGEMILL_HOST": "gpu", "PAGEMILL_PORT": "80"}, "http://gpu:80"),
        ({"PAGEMILL_HOST": "0.0.0.0"}, "http://127.0.0.1:11434"),
        ({"PAGEMILL_HOST": "::"}, "http://[::1]:11434"),
        ({"PAGEMILL_HOST": "fe80::1"}, "http://[fe80::1]:11434"),
        ({"PAGEMILL_HOST": "https://example.org/", "PAGEMILL_PORT": "1"}, "https://example.org"),
        ({"PAGEMILL_UDS": "/run/p.sock", "PAGEMILL_HOST": "gpu"}, "unix:/run/p.sock"),
    ],
)
def test_the_variables_that_a_server_reads_lead_to_it(environment: dict[str, str], address: str) -> None:
    assert server_address(arguments(), environment) == address


@pytest.mark.parametrize(
    ("given", "address"),
    [("gpu:80", "http://gpu:80"), ("http://gpu/", "http://gpu"), ("unix:/run/p.sock", "unix:/run/p.sock")],
)
def test_the_flag_wins(given: str, address: str) -> None:
    assert server_address(arguments(given), {"PAGEMILL_HOST": "other"}) == address


@pytest.mark.parametrize("given", ["foo://gpu", "http://[::1", "http://gpu:port", "gpu:70000", "gpu:0"])
def test_what_is_no_address_is_refused_by_itself(given: str) -> None:
    with pytest.raises(CommandError, match="is no server address: ") as refused:
        server_address(arguments(given), {})
    assert given in str(refused.value)


def test_the_key_comes_from_the_flag_or_is_the_first_of_the_variable() -> None:
    environment = {"PAGEMILL_API_KEY": "one,two"}
    assert api_key(arguments(key="flag"), environment) == "flag"
    assert api_key(arguments(), environment) == "one"
    assert api_key(arguments(), {}) is None
