"""What is done to the models in a models folder: put, copy, create, delete. Other processes may do it at the same time.

Owns `manifests/.lock`, held while manifests and the blobs that only they need come and go together. Everything here
blocks. May not import HTTP, an engine or a backend.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pagemill.errors import InvalidRequestError, ModelLoadError, ModelNotFoundError
from pagemill.store.references import GGUF_MAGIC
from pagemill.store.registry import blobs, manifests
from pagemill.store.registry.manifests import CONFIG_TYPE, MODEL_TYPE, Layer, Manifest
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


def create(models_dir: Path, name: ModelName, digest: str) -> None:
    """Of a GGUF file that is among the blobs.

    Raises:
        InvalidRequestError: there is no such blob, or it is no GGUF.
        ModelLoadError: the manifest can't be written.
    """
    model = Layer(MODEL_TYPE, digest, _size_of_gguf(models_dir, digest))
    content = _configuration(digest)
    config = Layer(CONFIG_TYPE, blobs.write(models_dir, content), len(content))
    put(models_dir, name, Manifest.of(config, (model,)))


def _size_of_gguf(models_dir: Path, digest: str) -> int:
    path = blobs.path_of(models_dir, digest)
    try:
        with path.open("rb") as file:
            magic, size_bytes = file.read(len(GGUF_MAGIC)), os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise InvalidRequestError(f"files: there is no blob {digest}; send it first", param="files") from error
    except OSError as error:
        raise ModelLoadError(f"can't read {path}: {error.strerror}") from error
    if magic != GGUF_MAGIC:
        raise InvalidRequestError(f"files: {digest} is no GGUF file: it begins with {magic!r}", param="files")
    return size_bytes


def _configuration(digest: str) -> bytes:
    """What Ollama wants to know of a model before it looks into its file."""
    image = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest]}}
    return json.dumps({"model_format": "gguf", **image}, separators=(",", ":")).encode()


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
