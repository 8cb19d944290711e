"""What can be loaded of a model that was pulled or created: from its manifest to the GGUF file among its blobs.

Owns no state. May not import HTTP, an engine or a backend.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pagemill.errors import ModelLoadError
from pagemill.store.references import ModelReference, Reference, gguf_reference
from pagemill.store.registry import blobs, manifests
from pagemill.store.registry.layers import read_defaults
from pagemill.store.registry.manifests import Manifest
from pagemill.store.registry.names import ModelName


def installed_reference(models_dir: Path, name: ModelName, names: Sequence[str]) -> ModelReference:
    """Clients may call it by any of `names`. It is as old as its manifest.

    Raises:
        ModelNotFoundError: there is no such manifest.
        ModelLoadError: what it is made of can't be served, or is not here.
    """
    manifest = manifests.read(models_dir, name)
    blob = _gguf_among(models_dir, name, manifest)
    defaults = read_defaults(models_dir, name, manifest)
    path = manifests.path_of(models_dir, name)
    try:
        modified_at = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
    except OSError as error:
        raise ModelLoadError(f"can't read {path}: {error.strerror}") from error
    sha256 = blob.name.removeprefix("sha256-")
    return gguf_reference(blob, names, sha256=sha256, modified_at=modified_at, defaults=defaults)


def is_installed(models_dir: Path, reference: Reference) -> bool:
    """Whether that is a model of the folder's blobs, and not one that a user named by a path of its own."""
    return isinstance(reference, ModelReference) and reference.path.parent == models_dir / blobs.FOLDER


def gguf_of(models_dir: Path, name: ModelName) -> Path:
    """The file. Raises as `installed_reference`, but does not look whether it is here."""
    return _gguf_among(models_dir, name, manifests.read(models_dir, name))


def _gguf_among(models_dir: Path, name: ModelName, manifest: Manifest) -> Path:
    models = manifest.of_kind("model")
    if manifest.of_kind("adapter"):
        raise ModelLoadError(f"{name} has an adapter, which can't be applied")
    if len(models) != 1:
        raise ModelLoadError(f"{name} has {len(models)} GGUF files, not one")
    return blobs.path_of(models_dir, models[0].digest)
