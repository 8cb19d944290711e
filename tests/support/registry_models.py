"""Models in a models folder as Ollama lays it out, written without our own code."""

import hashlib
import json
from pathlib import Path
from typing import Any

MODEL_LAYER = "application/vnd.ollama.image.model"
CONFIG = {"model_format": "gguf", "model_family": "qwen3", "file_type": "Q8_0"}


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def write_blob(models_dir: Path, content: bytes) -> str:
    path = models_dir / "blobs" / digest_of(content).replace(":", "-")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest_of(content)


def layer(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def manifest_of(gguf: bytes, **others: bytes) -> dict[str, Any]:
    """Of a GGUF and further layers by their kind, as `template`."""
    config = json.dumps(CONFIG).encode()
    return {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": layer("application/vnd.docker.container.image.v1+json", config),
        "layers": [
            layer(MODEL_LAYER, gguf),
            *(layer(f"application/vnd.ollama.image.{kind}", content) for kind, content in others.items()),
        ],
    }


def contents_of(gguf: bytes, **others: bytes) -> list[bytes]:
    """What the blobs of such a manifest are."""
    return [json.dumps(CONFIG).encode(), gguf, *others.values()]


def manifest_path(models_dir: Path, model: str, tag: str = "latest", owner: str = "registry.ollama.ai/library") -> Path:
    return models_dir / "manifests" / owner / model / tag


def write_model(models_dir: Path, model: str, gguf: bytes, tag: str = "latest", **others: bytes) -> Path:
    """The manifest's path."""
    for content in contents_of(gguf, **others):
        write_blob(models_dir, content)
    path = manifest_path(models_dir, model, tag)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest_of(gguf, **others)))
    return path
