"""`pagemill serve`: bind the port, begin to load the model, then import the web stack and serve.

Owns the process: its signals, its logging, its exit code. SIGTERM and SIGINT let running requests end for
`drain_timeout_s`; a second SIGINT ends the process at once, a second SIGTERM changes nothing. A MODEL that can't be
loaded ends it with exit code 1, so that whoever supervises the process sees it.
"""

import argparse
import gc
import logging
import os
import signal
import socket
from types import FrameType

from pagemill.cli.container import container_settings
from pagemill.cli.flags import add_settings_flags, given_settings
from pagemill.cli.listening import address_of, bind, bind_health, is_for_this_machine, release
from pagemill.cli.logs import configure_logging
from pagemill.errors import SettingsError
from pagemill.settings import Settings
from pagemill.settings_layers import load_settings

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "MODEL",
        nargs="*",
        help="grist (the demo model that ships inside, the default), a .gguf path, a model folder, either in S3, or a "
        "name in models_dir; several share the memory: the first is loaded at once, the others when they are asked for",
    )
    add_settings_flags(parser)


def execute(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    configure_logging(settings.log_level)
    _check_tls(settings)
    gc.disable()  # for the imports, as in `main`; the server turns it on again
    listeners = [bind(settings)]
    try:
        health = bind_health(settings)
        if health is not None:
            listeners.append(health)
        _leave_on_sigterm(listeners, settings)
        _warn_if_open(settings)
        return _serve(settings, listeners)
    finally:
        release(listeners, settings)


def _check_tls(settings: Settings) -> None:
    if any(name.startswith("ssl_") for name in settings.given_fields):
        from pagemill.cli import tls

        tls.check(settings)


def _warn_if_open(settings: Settings) -> None:
    if not (is_for_this_machine(settings) or settings.needs_key or settings.ssl_cert_reqs == "required"):
        logger.warning("whoever reaches %s port %d may ask: there is no api_key", settings.host, settings.port)


def _leave_on_sigterm(listeners: list[socket.socket], settings: Settings) -> None:
    """Until the server takes over: as process 1 of a container, we would otherwise be deaf to it. Nothing has been
    served yet, so there is nothing to wait for, least of all a load that is under way.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        release(listeners, settings)
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)


def _settings(arguments: argparse.Namespace) -> Settings:
    given = given_settings(arguments)
    if arguments.MODEL:
        first, *others = arguments.MODEL
        if given.setdefault("model", first) != first:
            raise SettingsError(f"two models: MODEL is {first!r}, --model is {given['model']!r}")
        if others and given.setdefault("further_models", others) != others:
            raise SettingsError("further models are given twice: after MODEL, and by --further-models")
    settings = load_settings(given, fallbacks=container_settings(os.environ))
    if settings.models_dir is not None and settings.manage_models is None:
        return settings.with_changes(manage_models=is_for_this_machine(settings) or settings.needs_key)
    return settings


def _serve(settings: Settings, listeners: list[socket.socket]) -> int:
    from pagemill.bootstrap import build_app, build_pool

    pool = build_pool(settings, load_at_once=True)  # the load runs while the web stack is imported
    from pagemill.cli.http_server import serve

    return serve(
        build_app(settings, pool), pool, settings, listeners, [address_of(item, settings) for item in listeners]
    )
