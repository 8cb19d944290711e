"""The models that were pulled or created: those of the manifests in a models folder, Ollama's own among them.

Owns no state. May not import HTTP, an engine or a backend.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path

from pagemill.errors import InvalidRequestError, ModelLoadError, ModelNotFoundError
from pagemill.store.references import ModelReference, gguf_reference
from pagemill.store.registry import blobs, manifests
from pagemill.store.registry.manifests import Manifest
from pagemill.store.registry.names import ModelName

logger = logging.getLogger(__name__)


def installed(models_dir: Path) -> list[ModelReference]:
    """All that can be served, by name. Of another there is a word in the log."""
    found = []
    for name in manifests.names(models_dir):
        try:
            found.append(reference(models_dir, name))
        except (ModelLoadError, ModelNotFoundError) as error:  # not found: just deleted
            logger.warning("not served: %s: %s", name, error)
    return sorted(found, key=lambda made: made.name)


def find(models_dir: Path, text: str) -> ModelReference | None:
    """The model of that name, with or without host, namespace and tag; the case of letters does not matter."""
    try:
        name = manifests.stored_as(models_dir, ModelName.parse(text))
        return None if name is None else reference(models_dir, name)
    except (InvalidRequestError, ModelNotFoundError):
        return None
    except ModelLoadError as error:
        logger.warning("not served: %s: %s", text, error)
        return None


def reference(models_dir: Path, name: ModelName) -> ModelReference:
    """
    Raises:
        ModelNotFoundError: there is no such manifest.
        ModelLoadError: what it is made of can't be served, or is not here.
    """
    digest = _gguf_digest(manifests.read(models_dir, name))
    path = manifests.path_of(models_dir, name)
    try:
        modified_at = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
    except OSError as error:
        raise ModelLoadError(f"can't read {path}: {error.strerror}") from error
    return gguf_reference(
        blobs.path_of(models_dir, digest),
        name.spellings(),
        sha256=digest.removeprefix("sha256:"),
        modified_at=modified_at,
    )


def _gguf_digest(manifest: Manifest) -> str:
    models = manifest.of_kind("model")
    if manifest.of_kind("adapter"):
        raise ModelLoadError("it has an adapter, which can't be applied")
    if len(models) != 1:
        raise ModelLoadError(f"it has {len(models)} GGUF files, not one")
    return models[0].digest
