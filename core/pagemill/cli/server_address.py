"""Which server a client verb talks to, and with which key: from flags, else from the variables the server itself reads.

Owns no state. Standard library only: whether a server listens is known before an HTTP client is imported.
"""

import argparse
import os
import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from pagemill.cli.failure import CommandError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 11434
UNIX = "unix:"
SCHEMES = {"http": 80, "https": 443}  # and their ports
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where a server that listens everywhere can be reached
PROBE_TIMEOUT_S = 1.0


def add_client_flags(parser: argparse.ArgumentParser) -> None:
    """`--server`, `--api-key` and `--cacert`, which `server_access` reads."""
    group = parser.add_argument_group("the server to talk to")
    group.add_argument(
        "--server",
        metavar="URL",
        help="address of a running server, or unix:PATH "
        f"[default: http://{DEFAULT_HOST}:{DEFAULT_PORT}; PAGEMILL_HOST and PAGEMILL_PORT or PORT, PAGEMILL_UDS]",
    )
    group.add_argument(
        "--api-key", dest="client_api_key", metavar="KEY", help="key that the server wants [PAGEMILL_API_KEY]"
    )
    group.add_argument(
        "--cacert",
        metavar="FILE",
        help="certificate in PEM, of the server or its authority, to trust beside the system's",
    )


class ServerAccess(NamedTuple):
    """How a server is reached: its address, the key it wants, a file of certificates to trust."""

    address: str
    key: str | None
    cacert: str | None


def server_access(arguments: argparse.Namespace) -> ServerAccess:
    """From the flags of `add_client_flags`, else from the variables."""
    return ServerAccess(server_address(arguments), api_key(arguments), arguments.cacert)


def server_address(arguments: argparse.Namespace, environment: Mapping[str, str] | None = None) -> str:
    """`http://HOST:PORT`, `https://...` or `unix:PATH`, without a slash at the end.

    Raises:
        CommandError: it is none of these.
    """
    address = _found_address(arguments.server, os.environ if environment is None else environment)
    try:
        is_right = address.startswith(UNIX) or (urlsplit(address).scheme in SCHEMES and urlsplit(address).port != 0)
    except ValueError as error:
        raise CommandError(f"{address!r} is no server address: {error}") from error
    if not is_right:
        raise CommandError(f"{address!r} is no server address: it must be http://HOST:PORT, https:// or unix:PATH")
    return address


def _found_address(given: str | None, environment: Mapping[str, str]) -> str:
    if given:
        return _with_scheme(given)
    if environment.get("PAGEMILL_UDS"):
        return UNIX + environment["PAGEMILL_UDS"]
    host = environment.get("PAGEMILL_HOST") or DEFAULT_HOST
    if "://" in host:
        return _with_scheme(host)
    host = WILDCARDS.get(host.strip("[]"), host.strip("[]"))
    port = environment.get("PAGEMILL_PORT") or environment.get("PORT") or DEFAULT_PORT
    scheme = "https" if environment.get("PAGEMILL_SSL_CERTFILE") else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def api_key(arguments: argparse.Namespace, environment: Mapping[str, str] | None = None) -> str | None:
    """The key to send. Of several in the variable (the server takes any of them), the first."""
    environment = os.environ if environment is None else environment
    given: str | None = arguments.client_api_key
    return given or environment.get("PAGEMILL_API_KEY", "").split(",")[0].strip() or None


def listens(address: str) -> bool:
    """Whether anything accepts connections there."""
    if address.startswith(UNIX):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(unix_path(address)) == 0
    url = urlsplit(address)
    try:
        with socket.create_connection((url.hostname or "", url.port or SCHEMES[url.scheme]), PROBE_TIMEOUT_S):
            return True
    except OSError:
        return False


def unix_path(address: str) -> str:
    """The path in `unix:PATH` or `unix://PATH`."""
    return address.removeprefix(UNIX).removeprefix("//")


def _with_scheme(text: str) -> str:
    text = text.rstrip("/")
    return text if "://" in text or text.startswith(UNIX) else f"http://{text}"
