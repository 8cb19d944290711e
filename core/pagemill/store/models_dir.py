"""The models in a folder, by name: those that were pulled into it, its GGUF files, and its model folders, also those in
folders within.

What was pulled has manifests as Ollama writes them, and is called as Ollama calls it. A file is called as its path
under the folder without `.gguf`, a split GGUF as its first part without the number, a model folder as its path. If a
folder and a file would have one name, the file is called with its `.gguf`, as it may be always. Owns what its last look
found. May not import an engine, a backend, torch or HTTP.
"""

import os
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path
from typing import NamedTuple

from pagemill.errors import InvalidRequestError, ModelLoadError, ModelNotFoundError, SettingsError
from pagemill.store.references import ModelReference, Reference, folder_reference, gguf_reference, is_model_folder
from pagemill.store.registry import manifests
from pagemill.store.registry.installed import installed_reference
from pagemill.store.registry.names import ModelName
from pagemill.store.split_gguf import stem_of

MAX_DEPTH = 4  # of folders; links may lead in a circle
PROJECTOR = "mmproj"  # files that begin so hold a model's eyes, not a model
SUFFIX = ".gguf"

logger = getLogger(__name__)


class _Place(NamedTuple):
    """Where a model lies, or its manifest, and what it may be called, the preferred name first."""

    path: Path
    names: tuple[str, ...]
    manifest: ModelName | None = None


class ModelsDir:
    """
    Raises:
        SettingsError: there is no such folder, or it can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[Path, ModelReference] = {}
        self._by_alias: dict[str, ModelReference] = {}
        self._looked_into: dict[Path, int] = {}  # each folder's time of change
        self._refused: dict[Path, str] = {}  # what is no model, and why
        try:
            os.scandir(folder).close()
        except OSError as error:
            raise SettingsError(f"models_dir: can't read {folder}: {error.strerror}") from error

    def look(self) -> tuple[ModelReference, ...]:
        """What is there now, by name. A model that has not changed keeps its reference."""
        self._looked_into.clear()
        found: dict[Path, ModelReference] = {}
        by_alias: dict[str, ModelReference] = {}
        refused: dict[Path, str] = {}
        for place in self._places():
            names = [name for name in place.names if name not in by_alias]
            reference = self._reference(place, names, refused) if names else None
            if reference is not None:
                found[place.path] = reference
                by_alias |= {alias: reference for alias in reference.aliases if alias not in by_alias}
        self._found, self._by_alias, self._refused = found, by_alias, refused
        return tuple(sorted(found.values(), key=lambda reference: reference.name))

    def find(self, name: str) -> ModelReference | None:
        """The model that clients call so; looks again if something came or went since the last time."""
        if name not in self._by_alias or self._changed():
            self.look()
        return self._by_alias.get(name) or self._in_other_letters(name)

    def has(self, reference: Reference) -> bool:
        """Whether that is what the last look found."""
        return any(found is reference for found in self._found.values())

    def _places(self) -> Iterator[_Place]:
        """First what was pulled: it was asked for by that name."""
        for name in manifests.names(self._folder):
            yield _Place(manifests.path_of(self._folder, name), name.spellings(), name)
        yield from sorted(self._walk(self._folder, 0), key=lambda place: (place.names, place.path))

    def _changed(self) -> bool:
        return any(_changed_at(path) != was for path, was in self._looked_into.items())

    def _in_other_letters(self, name: str) -> ModelReference | None:
        """Of what was pulled, the case of letters does not matter, as with Ollama."""
        try:
            stored = manifests.stored_as(self._folder, ModelName.parse(name))
        except InvalidRequestError:
            return None
        return None if stored is None else self._by_alias.get(str(stored))

    def _walk(self, folder: Path, depth: int) -> Iterator[_Place]:
        """The models in the folder and those within, folders before files."""
        self._looked_into[folder] = _changed_at(folder)
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            logger.warning("can't look for models in %s: %s", folder, error.strerror)
            return
        for path in entries:
            if path.name.startswith("."):
                continue
            name = path.relative_to(self._folder).as_posix()
            if path.suffix == SUFFIX and path.is_file():
                stem = stem_of(name)
                if stem is not None and not path.name.startswith(PROJECTOR):
                    yield _Place(path, (stem, name))
            elif path.is_dir():
                if is_model_folder(path):
                    self._looked_into[path] = _changed_at(path)
                    yield _Place(path, (name,))
                elif depth < MAX_DEPTH:
                    yield from self._walk(path, depth + 1)

    def _reference(self, place: _Place, names: list[str], refused: dict[Path, str]) -> ModelReference | None:
        """None, and a word in the log, of what is no model."""
        try:
            made = self._read(place, names)
        except (ModelLoadError, ModelNotFoundError) as error:
            refused[place.path] = str(error)
            if self._refused.get(place.path) != str(error):
                logger.warning("not served: %s", error)
            return None
        known = self._found.get(place.path)
        return known if known == made else made

    def _read(self, place: _Place, names: list[str]) -> ModelReference:
        if place.manifest is not None:
            return installed_reference(self._folder, place.manifest, names)
        return gguf_reference(place.path, names) if place.path.is_file() else folder_reference(place.path, names)


def _changed_at(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0
