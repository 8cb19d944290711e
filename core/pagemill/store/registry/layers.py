"""What a manifest's small layers say: system prompt, parameters, messages, licences. Reads blobs, and writes those of
new models.

Owns no state. May not import HTTP, an engine or a backend.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pagemill.errors import InvalidRequestError, ModelLoadError
from pagemill.store.model_defaults import ModelDefaults, checked_messages, checked_parameters
from pagemill.store.registry import blobs
from pagemill.store.registry.manifests import LAYER_TYPE, Layer, Manifest
from pagemill.store.registry.names import ModelName

KINDS = frozenset({"system", "params", "messages", "license", "template"})
MAX_LAYER_BYTES = 4 * 2**20
ACTION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
WITH_SUFFIX = re.compile(r"\{\{-? *if \.Suffix *-?\}\}.*?\{\{-? *else *-?\}\}", re.DOTALL)


class Additions(NamedTuple):
    """What a new model gets beside what it is made of."""

    system: str = ""
    parameters: Mapping[str, object] = {}
    messages: Sequence[Mapping[str, str]] = ()
    licenses: Sequence[str] = ()


def read_defaults(models_dir: Path, name: ModelName, manifest: Manifest) -> ModelDefaults | None:
    """None of a model that has weights alone.

    Raises:
        ModelLoadError: a layer is not here, or is not what it should be.
    """
    parent = next((layer.parent for layer in manifest.of_kind("model")), "")
    if not parent and not any(layer.kind in KINDS for layer in manifest.layers):
        return None
    try:
        return ModelDefaults(
            system=_last(models_dir, manifest, "system"),
            parameters=_parameters(models_dir, manifest),
            messages=checked_messages(_json(_last(models_dir, manifest, "messages"), [])),
            licenses=tuple(blobs.path_of(models_dir, layer.digest) for layer in manifest.of_kind("license")),
            has_go_template=_is_for_chats(template_of(models_dir, manifest)),
            parent=parent,
        )
    except (InvalidRequestError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{name} can't be used as it is: {error}") from error


def template_of(models_dir: Path, manifest: Manifest) -> str:
    """The text of its Go template; empty if there is none. Raises ModelLoadError: it is not here."""
    return _last(models_dir, manifest, "template")


def with_additions(models_dir: Path, manifest: Manifest, added: Additions) -> Manifest:
    """The manifest with further layers, whose blobs are written, in place of those of their kind: a parameter goes
    before one of its name, a licence is one more.

    Raises:
        ModelLoadError: a blob can't be written, or the parameters that are there can't be read.
    """
    layers = manifest.layers
    if added.system:
        layers = _replaced(layers, _written(models_dir, "system", added.system.encode()))
    for text in added.licenses:
        layer = _written(models_dir, "license", text.encode())
        layers = (*(other for other in layers if other.digest != layer.digest), layer)
    if added.parameters:
        both = {**_parameters(models_dir, manifest), **added.parameters}
        layers = _replaced(layers, _written(models_dir, "params", _as_json(both)))
    if added.messages:
        layers = _replaced(layers, _written(models_dir, "messages", _as_json(added.messages)))
    return manifest if layers == manifest.layers else Manifest.of(manifest.config, layers)


def _is_for_chats(template: str) -> bool:
    """Whether a Go template puts anything around a prompt. What it does with a suffix is no matter of chats."""
    return bool(ACTION.sub("", WITH_SUFFIX.sub("", template)).strip())


def _replaced(layers: tuple[Layer, ...], by: Layer) -> tuple[Layer, ...]:
    return (*(layer for layer in layers if layer.kind != by.kind), by)


def _written(models_dir: Path, kind: str, content: bytes) -> Layer:
    return Layer(LAYER_TYPE + kind, blobs.write(models_dir, content), len(content))


def _as_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"  # as Go's encoder ends it


def _parameters(models_dir: Path, manifest: Manifest) -> dict[str, object]:
    found: dict[str, object] = {}
    for layer in manifest.of_kind("params"):
        found |= checked_parameters(_json(_text(models_dir, layer), {}))
    return found


def _last(models_dir: Path, manifest: Manifest, kind: str) -> str:
    """The text of the last layer of that kind, which is the one that counts; empty if there is none."""
    layers = manifest.of_kind(kind)
    return _text(models_dir, layers[-1]) if layers else ""


def _json(text: str, nothing: Any) -> Any:
    return (json.loads(text) if text.strip() else nothing) or nothing


def _text(models_dir: Path, layer: Layer) -> str:
    path = blobs.path_of(models_dir, layer.digest)
    try:
        if path.stat().st_size > MAX_LAYER_BYTES:
            raise ModelLoadError(f"{path} has more than {MAX_LAYER_BYTES} bytes, too many for a {layer.kind}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelLoadError(f"can't read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelLoadError(f"{path} is no text, as a {layer.kind} is: {error}") from error
