"""Blobs: the files of all models by the SHA-256 of their content, in a models folder `blobs/sha256-HEX` as with Ollama.

Owns those files. May not import HTTP, an engine or a backend.
"""

import hashlib
import os
import re
import secrets
from contextlib import closing, suppress
from pathlib import Path

from pagemill.errors import InvalidRequestError, ModelLoadError
from pagemill.store.disk import not_written

FOLDER = "blobs"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def check_digest(text: str, *, param: str) -> str:
    """
    Raises:
        InvalidRequestError: it is no digest; names the field `param`.
    """
    digest = text.replace("sha256-", "sha256:", 1)
    if not DIGEST.fullmatch(digest):
        raise InvalidRequestError(f"{param}: a digest is sha256: and 64 hexadecimal digits, got {text!r}", param=param)
    return digest


def path_of(models_dir: Path, digest: str) -> Path:
    """Of a digest that was checked."""
    return models_dir / FOLDER / digest.replace(":", "-")


def is_here(models_dir: Path, digest: str, size_bytes: int | None = None) -> bool:
    """Whether it is, and has that size."""
    try:
        found = path_of(models_dir, digest).stat().st_size
    except OSError:
        return False
    return size_bytes in (None, found)


def remove(models_dir: Path, digest: str) -> None:
    """
    Raises:
        ModelLoadError: it can't be deleted.
    """
    path = path_of(models_dir, digest)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ModelLoadError(f"can't delete {path}: {error.strerror}") from error


def write(models_dir: Path, content: bytes) -> str:
    """A small blob; its digest. Raises ModelLoadError: it can't be written."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if not is_here(models_dir, digest, len(content)):
        with closing(Upload(models_dir, digest)) as upload:
            upload.begin()
            upload.write(content)
            upload.keep()
    return digest


class Upload:
    """A blob that comes in pieces. `close` deletes what was not kept."""

    def __init__(self, models_dir: Path, digest: str) -> None:
        self._path = path_of(models_dir, digest)
        self._unfinished = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        self._digest = digest
        self._sha256 = hashlib.sha256()
        self._descriptor = -1

    def begin(self) -> None:
        """
        Raises:
            ModelLoadError: the folder can't be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._cannot_write(error) from error

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        with suppress(OSError):
            self._unfinished.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """
        Raises:
            ModelLoadError: the disk is full, or the like.
        """
        self._sha256.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise self._cannot_write(error) from error

    def keep(self) -> None:
        """It is whole.

        Raises:
            InvalidRequestError: it is another than its digest says.
            ModelLoadError: it can't be put in its place.
        """
        found = f"sha256:{self._sha256.hexdigest()}"
        if found != self._digest:
            raise InvalidRequestError(f"digest mismatch, expected {self._digest}, got {found}", param="digest")
        try:
            self._unfinished.replace(self._path)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> ModelLoadError:
        return not_written(error, f"can't write {self._path}: {error.strerror}")
