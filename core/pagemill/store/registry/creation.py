"""What new models are made of: a GGUF file that is among the blobs, or a model that is here.

Owns no state. What comes of it is a manifest, which `layers.with_additions` adds to and `verbs.put` gives a name. May
not import HTTP, an engine or a backend.
"""

import json
import os
from pathlib import Path

from pagemill.errors import InvalidRequestError, ModelLoadError
from pagemill.store.references import GGUF_MAGIC
from pagemill.store.registry import blobs, manifests
from pagemill.store.registry.installed import gguf_of
from pagemill.store.registry.manifests import CONFIG_TYPE, MODEL_TYPE, Layer, Manifest
from pagemill.store.registry.names import ModelName


def of_file(models_dir: Path, digest: str) -> Manifest:
    """
    Raises:
        InvalidRequestError: there is no such blob, or it is no GGUF.
        ModelLoadError: its configuration can't be written.
    """
    model = Layer(MODEL_TYPE, digest, _size_of_gguf(models_dir, digest))
    content = _configuration(digest)
    config = Layer(CONFIG_TYPE, blobs.write(models_dir, content), len(content))
    return Manifest.of(config, (model,))


def of_model(models_dir: Path, source: ModelName) -> Manifest:
    """With all layers of the model, each of which says where it is from.

    Raises:
        ModelNotFoundError: there is no such model.
        ModelLoadError: it can't be served.
    """
    gguf_of(models_dir, source)
    manifest = manifests.read(models_dir, source)
    return Manifest.of(manifest.config, tuple(layer._replace(parent=str(source)) for layer in manifest.layers))


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
