"""Manifests: which blobs a model is made of, in Docker's (and OCI's) JSON. In a models folder they are
`manifests/HOST/NAMESPACE/MODEL/TAG`, as with Ollama.

Owns those files. May not import HTTP, an engine or a backend.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pagemill.errors import InvalidRequestError, ModelLoadError, ModelNotFoundError
from pagemill.store.disk import not_written
from pagemill.store.registry import blobs
from pagemill.store.registry.names import ModelName

FOLDER = "manifests"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.ollama.image."
MODEL_TYPE = f"{LAYER_TYPE}model"
MAX_MANIFEST_BYTES = 4 * 2**20


class Layer(NamedTuple):
    """One blob of a model, and what it holds."""

    media_type: str
    digest: str  # "sha256:" and hex
    size_bytes: int
    parent: str = ""  # the model that it was taken from

    @property
    def kind(self) -> str:
        """`model`, `template`, `params`, ...; empty if Ollama does not know it."""
        return self.media_type.removeprefix(LAYER_TYPE) if self.media_type.startswith(LAYER_TYPE) else ""

    def as_json(self) -> dict[str, object]:
        parent = {"from": self.parent} if self.parent else {}
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes, **parent}


class Manifest(NamedTuple):
    """A model's blobs. `content` is the JSON as it came."""

    config: Layer | None
    layers: tuple[Layer, ...]
    content: bytes

    @classmethod
    def parse(cls, content: bytes, origin: object) -> "Manifest":
        """
        Raises:
            ModelLoadError: it is no manifest; names its `origin`.
        """
        try:
            data = json.loads(content)
            config = _layer(data["config"]) if data.get("config") else None
            return cls(config, tuple(_layer(item) for item in data["layers"]), content)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ModelLoadError(f"{origin} is no manifest of a model: {type(error).__name__}: {error}") from error

    @classmethod
    def of(cls, config: Layer | None, layers: tuple[Layer, ...]) -> "Manifest":
        content = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": None if config is None else config.as_json(),
            "layers": [layer.as_json() for layer in layers],
        }
        return cls(config, layers, json.dumps(content, separators=(",", ":")).encode())

    def blobs(self) -> tuple[Layer, ...]:
        """All of them, each once: the layers, then the configuration."""
        everything = (*self.layers, *([] if self.config is None else [self.config]))
        return tuple({layer.digest: layer for layer in everything}.values())

    def of_kind(self, kind: str) -> list[Layer]:
        return [layer for layer in self.layers if layer.kind == kind]


def _layer(item: Any) -> Layer:
    media_type, digest, size_bytes = item["mediaType"], item["digest"], item["size"]
    if not isinstance(media_type, str) or not isinstance(size_bytes, int) or size_bytes < 0:
        raise ValueError(f"mediaType {media_type!r}, size {size_bytes!r}")
    if not isinstance(digest, str) or not blobs.DIGEST.fullmatch(digest):
        raise ValueError(f"digest {digest!r}")
    parent = item.get("from")
    return Layer(media_type, digest, size_bytes, parent if isinstance(parent, str) else "")


def path_of(models_dir: Path, name: ModelName) -> Path:
    return models_dir.joinpath(FOLDER, *name)


def names(models_dir: Path) -> Iterator[ModelName]:
    """Of all manifests that are there, in order. Files of other names are none."""
    root = models_dir / FOLDER
    for path in sorted(root.glob("*/*/*/*")):
        try:
            name = ModelName.parse("{}/{}/{}:{}".format(*path.relative_to(root).parts))
        except InvalidRequestError:
            continue
        if path.is_file():
            yield name


def stored_as(models_dir: Path, name: ModelName) -> ModelName | None:
    """The name under which there is a manifest, which may differ in the case of its letters."""
    if path_of(models_dir, name).is_file():
        return name
    return next((other for other in names(models_dir) if other.is_same(name)), None)


def read(models_dir: Path, name: ModelName) -> Manifest:
    """
    Raises:
        ModelNotFoundError: there is none.
        ModelLoadError: it can't be read, or is damaged.
    """
    stored = stored_as(models_dir, name)
    if stored is None:
        raise ModelNotFoundError(f"model '{name}' not found", param="model")
    path = path_of(models_dir, stored)
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ModelLoadError(f"{path} is no manifest of a model: it has more than {MAX_MANIFEST_BYTES} bytes")
        return Manifest.parse(path.read_bytes(), path)
    except OSError as error:
        raise ModelLoadError(f"can't read {path}: {error.strerror}") from error


def write(models_dir: Path, name: ModelName, manifest: Manifest) -> None:
    """At once: who reads finds the old one or the new one.

    Raises:
        ModelLoadError: it can't be written.
    """
    path = path_of(models_dir, stored_as(models_dir, name) or name)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")  # such a name is no model's
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(manifest.content)
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise not_written(error, f"can't write {path}: {error.strerror}") from error


def remove(models_dir: Path, name: ModelName) -> None:
    """With the folders that it leaves empty.

    Raises:
        ModelLoadError: it can't be deleted.
    """
    path = path_of(models_dir, name)
    try:
        path.unlink()
    except OSError as error:
        raise ModelLoadError(f"can't delete {path}: {error.strerror}") from error
    with suppress(OSError):  # it is not empty
        for folder in list(path.parents)[:3]:
            folder.rmdir()
