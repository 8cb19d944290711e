"""What can be served: from the name or path that a user gives to a `ModelReference`.

A model is a GGUF file, or a folder as Hugging Face's libraries write it. Owns no state but each reference's digest,
computed once. May not import an engine, a backend, torch or HTTP: what is looked at is which files there are.
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
CONFIG = "config.json"
CONFIG_FILES = ("*.json", "*.jinja", "*.model")  # of a folder: what decides, beside the weights, how it answers
WEIGHTS = (
    "model.safetensors",
    "pytorch_model.bin",
)  # or shards that their index names; the first that is there is loaded
Format = Literal["gguf", "safetensors", "fake"]


@dataclass(frozen=True, slots=True)
class ModelReference:
    """One model that can be loaded. `aliases` are all names that a client may use, `name` among them.

    `path` is the file, or the folder if the format is "safetensors" (the weights may be PyTorch's .bin too).
    """

    name: str
    aliases: tuple[str, ...]
    path: Path
    format: Format
    size_bytes: int  # of the weights
    modified_at: datetime  # aware, UTC; of the newest file
    _digest: list[str] = field(default_factory=list, init=False, repr=False, compare=False)  # none or one

    def digest(self) -> str:
        """ "sha256:" and a hash in hex: of the file's content; of the names, sizes and contents of a folder's files.
        The first call reads all of it: not on the event loop.

        Raises:
            ModelLoadError: a file can't be read.
        """
        if not self._digest:
            self._digest.append("sha256:" + _sha256(self))
        return self._digest[0]


def resolve(model: str, served_model_name: Sequence[str] = (), *, backend: str = "auto") -> ModelReference:
    """The model of that name (`grist`, `grist:latest`, `fake`), in that .gguf file, or in that folder.

    Clients may call it by any of `served_model_name` if given, else by its own name (and its path as it was given),
    each with or without the tag `:latest`. `backend` is the setting: the demo model is here in the forms of all.

    Raises:
        ModelNotFoundError: there is no such model, file or folder; says what was tried.
        ModelLoadError: the file is not GGUF, the folder holds no model, or can't be read.
    """
    base = model.removesuffix(f":{DEFAULT_TAG}")
    if base == FAKE_MODEL:
        return _fake(served_model_name)
    if base == DEMO_MODEL:
        return _demo(model, served_model_name or (DEMO_MODEL,), backend)
    path = Path(model).expanduser()
    if path.is_dir():
        return _folder(path, served_model_name or (path.resolve().name, model))
    if not path.is_file():
        what = f"it is not a built-in model ({DEMO_MODEL}), and there is no file or folder {path}"
        raise ModelNotFoundError(f"model {model!r} not found: {what}", param="model")
    return _gguf(path, served_model_name or (path.stem, model))


def with_tag(name: str) -> str:
    """The name with its tag: `grist` is `grist:latest`. A colon in a folder name is no tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:{DEFAULT_TAG}"


def _demo(model: str, names: Sequence[str], backend: str) -> ModelReference:
    folder = DEMO_FOLDER / DEMO_MODEL
    path = folder / (CONFIG if backend == "paged" else f"{DEMO_MODEL}-q8_0.gguf")
    if not path.is_file():
        raise ModelNotFoundError(f"model {model!r} not found: this installation lacks {path}", param="model")
    return _folder(folder, names) if backend == "paged" else _gguf(path, names)


def _folder(folder: Path, names: Sequence[str]) -> ModelReference:
    try:
        if not (folder / CONFIG).is_file():
            raise ModelLoadError(f"{folder} is no model folder: {_what_it_is(folder)}")
        weights = [path.stat() for path in _weight_files(folder)]
        others = [path.stat() for path in _config_files(folder)]
    except OSError as error:
        raise ModelLoadError(f"can't read the model folder {folder}: {error.strerror}") from error
    size_bytes = sum(status.st_size for status in weights)
    newest = max(status.st_mtime for status in (*weights, *others))
    modified_at = datetime.fromtimestamp(newest, tz=UTC)
    return ModelReference(names[0], _aliases(names), folder, "safetensors", size_bytes, modified_at)


def _what_it_is(folder: Path) -> str:
    gguf = sorted(folder.glob("*.gguf"))
    if gguf:
        return f"it has no {CONFIG}, but {len(gguf)} GGUF file(s); name one of them, as {gguf[0]}"
    return f"it has no {CONFIG}, which Hugging Face models have"


def _weight_files(folder: Path) -> list[Path]:
    """Those that are loaded. What is missing or damaged is for the backend to complain of."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    return []


def _shards(index: Path) -> list[Path]:
    import json

    try:
        names = {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []
    return sorted(path for path in (index.parent / Path(name).name for name in names) if path.is_file())


def _config_files(folder: Path) -> list[Path]:
    return sorted(path for pattern in CONFIG_FILES for path in folder.glob(pattern))


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
        if reference.format == "gguf":
            return _file_sha256(reference.path)
        files = (*_config_files(reference.path), *_weight_files(reference.path))
        lines = (f"{path.name} {path.stat().st_size} {_file_sha256(path)}\n" for path in files)
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
    except OSError as error:
        raise ModelLoadError(
            f"can't read the model file {error.filename or reference.path}: {error.strerror}"
        ) from error


def _file_sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
