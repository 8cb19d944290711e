"""The API keys that open a server: those of the settings, and those of a file, which is read again when it changes.

Owns what it has read of the file. A key is known in logs and limits by its id, the beginning of its SHA-256; the key
itself is never shown.
"""

import hashlib
import hmac
import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pagemill.errors import SettingsError

logger = logging.getLogger(__name__)

ID_LENGTH = 8  # hexadecimal digits


class ApiKey(NamedTuple):
    """One key, and what it is called where people read."""

    secret: bytes
    key_id: str


class ApiKeys:
    """Keys to compare with what a client sends. The file holds one a line, between blank lines and comments (#).

    Raises:
        SettingsError: the file can't be read, or holds no key.
    """

    def __init__(self, keys: Sequence[str], file: str | None = None) -> None:
        self._given = [_key(text) for text in keys]
        self._path = None if file is None else Path(file).expanduser()
        self._in_file: list[ApiKey] = []
        self._seen: tuple[int, ...] = ()  # how the file was when it was last looked at
        if self._path is not None:
            self._seen = _look(self._path)
            try:
                self._in_file = _read(self._path)
            except (OSError, ValueError) as error:
                raise SettingsError(f"can't use the api_key_file {self._path}: {_reason(error)}") from error

    @property
    def required(self) -> bool:
        """Whether there are any: else the server is open."""
        return bool(self._given) or self._path is not None

    def identify(self, given: bytes) -> str | None:
        """The id of the key that was sent, None if it is none of ours. All keys are compared, each in constant time:
        the time taken tells nothing about them.
        """
        self._read_again_if_changed()
        matches = [key.key_id for key in (*self._given, *self._in_file) if hmac.compare_digest(given, key.secret)]
        return matches[0] if matches else None

    def _read_again_if_changed(self) -> None:
        """What can't be read leaves the keys as they were: a slip in a rotation must not shut everybody out."""
        if self._path is None:
            return
        seen = _look(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._in_file = _read(self._path)
        except (OSError, ValueError) as error:
            logger.error("the API keys stay as they were: can't use %s: %s", self._path, _reason(error))
        else:
            logger.info("read %d API keys from %s", len(self._in_file), self._path)


def _key(text: str) -> ApiKey:
    secret = text.encode()
    return ApiKey(secret, hashlib.sha256(secret).hexdigest()[:ID_LENGTH])


def _look(path: Path) -> tuple[int, ...]:
    """What changes when the file does; nothing if it can't be looked at."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> list[ApiKey]:
    with path.open(encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
            logger.warning("everybody on this machine can read the API keys in %s: chmod o-r", path)
        lines = [line.strip() for line in file]
    keys = [_key(line) for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError("it holds no key")
    return keys


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
