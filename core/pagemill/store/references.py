"""What can be served: from the name or path that a user gives to a `ModelReference`.

Owns no state but each reference's digest, computed once. May not import an engine, a backend or HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pagemill.errors import ModelLoadError, ModelNotFoundError

GGUF_MAGIC = b"GGUF"
DEFAULT_TAG = "latest"
FAKE_MODEL = "fake"
DEMO_MODEL = "grist"
DEMO_FOLDER = Path(__file__).parent / "demo"


@dataclass(frozen=True, slots=True)
class ModelReference:
    """One model that can be loaded. `aliases` are all names that a client may use, `name` among them."""

    name: str
    aliases: tuple[str, ...]
    path: Path
    format: Literal["gguf", "fake"]
    size_bytes: int
    modified_at: datetime  # aware, UTC
    _digest: list[str] = field(default_factory=list, init=False, repr=False, compare=False)  # none or one

    def digest(self) -> str:
        """ "sha256:" and the hash of the file in hex. The first call reads all of the file: not on the event loop.

        Raises:
            ModelLoadError: the file can't be read.
        """
        if not self._digest:
            self._digest.append("sha256:" + _sha256(self))
        return self._digest[0]


def resolve(model: str, served_model_name: Sequence[str] = ()) -> ModelReference:
    """The model of that name (`grist`, `grist:latest`, `fake`), or in that .gguf file.

    Clients may call it by any of `served_model_name` if given, else by its own name (and its path as it was given),
    each with or without the tag `:latest`.

    Raises:
        ModelNotFoundError: there is no such model or file; says what was tried.
        ModelLoadError: the file is not GGUF, or can't be read.
    """
    base = model.removesuffix(f":{DEFAULT_TAG}")
    if base == FAKE_MODEL:
        return _fake(served_model_name)
    if base == DEMO_MODEL:
        path = DEMO_FOLDER / DEMO_MODEL / f"{DEMO_MODEL}-q8_0.gguf"
        if not path.is_file():
            raise ModelNotFoundError(f"model {model!r} not found: this installation lacks {path}", param="model")
        return _gguf(path, served_model_name or (DEMO_MODEL,))
    path = Path(model).expanduser()
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        message = f"model {model!r} not found: it is not a built-in model ({DEMO_MODEL}), and the file {path} {kind}"
        raise ModelNotFoundError(message, param="model")
    return _gguf(path, served_model_name or (path.stem, model))


def with_tag(name: str) -> str:
    """The name with its tag: `grist` is `grist:latest`. A colon in a folder name is no tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:{DEFAULT_TAG}"


def _gguf(path: Path, names: Sequence[str]) -> ModelReference:
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
        status = path.stat()
    except OSError as error:
        raise ModelLoadError(f"can't read the model file {path}: {error.strerror}") from error
    if magic != GGUF_MAGIC:
        raise ModelLoadError(f"{path} is not a GGUF file: it begins with {magic!r}, not {GGUF_MAGIC!r}")
    modified_at = datetime.fromtimestamp(status.st_mtime, tz=UTC)
    return ModelReference(names[0], _aliases(names), path, "gguf", status.st_size, modified_at)


def _fake(served_model_name: Sequence[str]) -> ModelReference:
    names = served_model_name or (FAKE_MODEL,)
    return ModelReference(names[0], _aliases(names), Path(FAKE_MODEL), "fake", 0, datetime.fromtimestamp(0, tz=UTC))


def _aliases(names: Sequence[str]) -> tuple[str, ...]:
    aliases: dict[str, None] = {}
    for name in names:
        bare = name.removesuffix(f":{DEFAULT_TAG}")
        aliases |= dict.fromkeys((name, bare, with_tag(bare)))
    return tuple(aliases)


def _sha256(reference: ModelReference) -> str:
    import hashlib

    if reference.format == "fake":
        return hashlib.sha256(reference.name.encode()).hexdigest()
    try:
        with reference.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelLoadError(f"can't read the model file {reference.path}: {error.strerror}") from error
