"""The server's listening sockets, bound before anything heavy is imported: connections queue while the rest starts."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterable

from pagemill.cli.failure import CommandError
from pagemill.settings import Settings
from pagemill.settings_layers import flag_of

BACKLOG = 2048  # uvicorn's and vLLM's


def bind(settings: Settings) -> socket.socket:
    """A socket that listens where the settings say.

    Raises:
        CommandError: the address is taken, unknown or not allowed; names it and says what to do.
    """
    return _bind_uds(settings.uds) if settings.uds is not None else _bind_tcp(settings.host, settings.port, "port")


def bind_health(settings: Settings) -> socket.socket | None:
    """A socket for probes alone, if they have a port of their own. 0 takes a free one.

    Raises:
        CommandError: as `bind`.
    """
    port = settings.health_port
    if port is None or (port == settings.port != 0 and settings.uds is None):
        return None
    return _bind_tcp(settings.host, port, "health_port")


def address_of(listener: socket.socket, settings: Settings) -> str:
    """The URL of a listening socket, with the port that was really taken; `unix:PATH` for a Unix socket."""
    scheme = "http" if settings.ssl_certfile is None else "https"
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"{scheme}://{host}:{port}"


def is_for_this_machine(settings: Settings) -> bool:
    """Whether only this machine reaches where the settings have the server listen."""
    return settings.uds is not None or is_loopback(settings.host)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    from ipaddress import ip_address

    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def release(listeners: Iterable[socket.socket], settings: Settings) -> None:
    """Close what was bound, and remove the file of a Unix socket. The server may have closed the sockets already."""
    for listener in listeners:
        listener.close()
    if settings.uds is not None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(settings.uds)


def _bind_tcp(host: str, port: int, setting: str) -> socket.socket:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CommandError(f"can't listen on {host}: {error.strerror}") from error
    # IPv4 first: of the two addresses of "localhost", clients that try only one try 127.0.0.1.
    family, kind, protocol, _name, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        in_use = error.errno == errno.EADDRINUSE
        hint = f"; stop what listens there, or choose another with {flag_of(setting)}" if in_use else ""
        raise CommandError(f"can't listen on {host}:{port}: {os.strerror(error.errno or 0)}{hint}") from error
    return listener


def _bind_uds(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CommandError(f"can't listen on unix:{path}: {error.strerror or error}") from error
    return listener


def _remove_stale(path: str) -> None:
    """Remove the socket file of a server that is gone."""
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise OSError(errno.EEXIST, "a file is there that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(path) == 0:
            raise OSError(errno.EADDRINUSE, "another server listens there")
    os.unlink(path)
