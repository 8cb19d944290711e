"""Where verbs that change the models do it: in a running server's folder, by asking it, or in a folder of this machine.

Owns no state. Standard library only, until it is known which.
"""

import argparse
from pathlib import Path

from pagemill.cli.failure import CommandError
from pagemill.cli.flags import add_settings_flags, given_settings
from pagemill.cli.server_address import add_client_flags, listens, server_access
from pagemill.settings import Settings
from pagemill.settings_layers import load_settings


def add_folder_flags(parser: argparse.ArgumentParser, *settings: str) -> None:
    """Those of the server, `--models-dir`, and further settings that only matter in a folder."""
    add_client_flags(parser)
    add_settings_flags(parser, ("models_dir", *settings))


def folder_settings(arguments: argparse.Namespace) -> Settings | None:
    """The settings, among them the folder; None if a server is to be asked. A folder that is named goes before a server
    that listens, and a server that is named before all.

    Raises:
        CommandError: no server listens, and there is no folder.
    """
    given = given_settings(arguments)
    if arguments.server or ("models_dir" not in given and listens(server_access(arguments).address)):
        return None
    settings = load_settings(given)
    if settings.models_dir is None:
        address = server_access(arguments).address
        raise CommandError(
            f"no server answers at {address}, and there is no folder: start a server with `pagemill serve --models-dir "
            "FOLDER`, or name the folder with --models-dir (PAGEMILL_MODELS_DIR)"
        )
    return settings


def folder_of(settings: Settings) -> Path:
    assert settings.models_dir is not None  # as `folder_settings` gives them
    return Path(settings.models_dir).expanduser()
