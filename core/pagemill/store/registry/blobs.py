"""Blobs: the files of all models by the SHA-256 of their content, in a models folder `blobs/sha256-HEX` as with Ollama.

Owns those files. May not import HTTP, an engine or a backend.
"""

from pathlib import Path

FOLDER = "blobs"


def path_of(models_dir: Path, digest: str) -> Path:
    """Of a digest that was checked: "sha256:" and 64 hexadecimal digits."""
    return models_dir / FOLDER / digest.replace(":", "-")
