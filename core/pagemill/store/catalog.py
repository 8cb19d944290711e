"""The models that a server can serve: those that its settings name, and those that lie in its models folder.

Owns no state but what the folder's last look found. May not import an engine, a backend, torch or HTTP.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pagemill.errors import ModelNotFoundError, SettingsError
from pagemill.settings import Settings
from pagemill.store.references import Reference, resolve, resolve_local

if TYPE_CHECKING:
    from pagemill.store.models_dir import ModelsDir


class Catalog:
    """Those that are named come first, and keep their names: what lies in the folder under such a name is not served,
    unless it is what was named.

    The first that is named is the default, which answers requests that name none.

    Raises:
        SettingsError: two that are named have one name.
    """

    def __init__(self, named: Sequence[Reference], models_dir: "ModelsDir | None" = None) -> None:
        self._named = tuple(named)
        self._models_dir = models_dir
        self._in_folder = {
            reference.name for reference in named if models_dir is not None and models_dir.has(reference)
        }
        self._by_alias: dict[str, Reference] = {}
        for reference in named:
            if reference.name in self._by_alias:
                raise SettingsError(f"two models are called {reference.name!r}: clients could not tell them apart")
            for alias in reference.aliases:
                self._by_alias.setdefault(alias, reference)

    @property
    def default(self) -> "Reference | None":
        return (self._now(self._named[0]) or self._named[0]) if self._named else None

    def references(self) -> tuple[Reference, ...]:
        """All, as they are now: the folder is looked at again."""
        if self._models_dir is None:
            return self._named
        found = self._models_dir.look()
        named = [now for reference in self._named if (now := self._now(reference)) is not None]
        return (*named, *(reference for reference in found if reference.name not in self._by_alias))

    def find(self, name: str) -> "Reference | None":
        """The model that clients call so. The folder is asked for what its last look didn't find."""
        reference = self._by_alias.get(name)
        if reference is not None:
            return self._now(reference)
        return None if self._models_dir is None else self._models_dir.find(name)

    def _now(self, reference: Reference) -> "Reference | None":
        """What a name means that was the folder's own: it may have come anew since, or have gone."""
        if self._models_dir is None or reference.name not in self._in_folder:
            return reference
        return self._models_dir.find(reference.name)


def make_catalog(settings: Settings) -> Catalog:
    """
    Raises:
        SettingsError: `models_dir` can't be read, or two models have one name.
        ModelNotFoundError, ModelLoadError: a model that is named is not there, or is plainly none.
    """
    models_dir = None
    if settings.models_dir is not None:
        from pagemill.store.models_dir import ModelsDir

        models_dir = ModelsDir(Path(settings.models_dir).expanduser())
    names = [(settings.model, settings.served_model_name)] if settings.names_model else []
    names += [(model, ()) for model in settings.further_models]
    return Catalog([_resolve(model, served, settings.backend, models_dir) for model, served in names], models_dir)


def _resolve(model: str, served_model_name: Sequence[str], backend: str, models_dir: "ModelsDir | None") -> Reference:
    try:
        return resolve(model, served_model_name, backend=backend)
    except ModelNotFoundError:
        found = None if models_dir is None else models_dir.find(model)
        if found is None:
            raise
    if not served_model_name:
        return found
    return replace(resolve_local(str(found.path), (*served_model_name, found.name)), defaults=found.defaults)
