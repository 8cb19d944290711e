"""What is done to the models in a models folder: put, copy, delete. Other processes may do it at the same time.

Owns `manifests/.lock`, held while manifests and the blobs that only they need come and go together. Everything here
blocks. May not import HTTP, an engine or a backend.
"""

import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pagemill.errors import ModelLoadError, ModelNotFoundError
from pagemill.store.registry import blobs, manifests
from pagemill.store.registry.manifests import Layer, Manifest
from pagemill.store.registry.names import ModelName

logger = logging.getLogger(__name__)

LOCK = ".lock"


def put(models_dir: Path, name: ModelName, manifest: Manifest) -> None:
    """Call a model that is here by that name. Blobs that only the one before needed are deleted.

    Raises:
        ModelLoadError: a blob is not here (any more), or the manifest can't be written.
    """
    with _locked(models_dir):
        for blob in manifest.blobs():
            if not blobs.is_here(models_dir, blob.digest):
                raise ModelLoadError(f"{name} can't be had: its {blob.digest} was deleted meanwhile; try again")
        before = _blobs_of(models_dir, name)
        manifests.write(models_dir, name, manifest)
        _forget(models_dir, before)


def copy(models_dir: Path, source: ModelName, destination: ModelName) -> None:
    """
    Raises:
        ModelNotFoundError: there is no `source`.
        ModelLoadError: the manifest can't be read or written.
    """
    put(models_dir, destination, manifests.read(models_dir, source))


def delete(models_dir: Path, name: ModelName) -> None:
    """With the blobs that no other model needs.

    Raises:
        ModelNotFoundError: there is no such model.
        ModelLoadError: it can't be deleted.
    """
    with _locked(models_dir):
        stored = manifests.stored_as(models_dir, name)
        if stored is None:
            raise ModelNotFoundError(f"model '{name}' not found", param="model")
        before = _blobs_of(models_dir, stored)
        manifests.remove(models_dir, stored)
        _forget(models_dir, before)


def _blobs_of(models_dir: Path, name: ModelName) -> Sequence[Layer]:
    """None of a manifest that is not there, or damaged."""
    try:
        return manifests.read(models_dir, name).blobs()
    except (ModelNotFoundError, ModelLoadError):
        return ()


def _forget(models_dir: Path, candidates: Sequence[Layer]) -> None:
    """Delete those blobs that no manifest names. If one can't be read, nobody knows what it needs, and all stay."""
    try:
        everything = [manifests.read(models_dir, name).blobs() for name in manifests.names(models_dir)]
    except ModelLoadError as error:
        logger.warning("blobs that may not be needed any more stay: %s", error)
        return
    needed = {blob.digest for found in everything for blob in found}
    for blob in candidates:
        if blob.digest not in needed:
            blobs.remove(models_dir, blob.digest)


@contextmanager
def _locked(models_dir: Path) -> Iterator[None]:
    path = models_dir / manifests.FOLDER / LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        raise ModelLoadError(f"can't write to {path.parent}: {error.strerror}") from error
    try:
        yield
    finally:
        os.close(descriptor)
