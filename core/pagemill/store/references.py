"""What can be served: from the name, path or location that a user gives to a `ModelReference`.

A model is a GGUF file, or a folder as Hugging Face's libraries write it. One in S3 is a `RemoteReference` until it is
fetched. Owns no state but each reference's digest, computed once. May not import an engine, a backend, torch or HTTP:
what is looked at is which files there are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from pagemill.errors import ModelLoadError, ModelNotFoundError

if TYPE_CHECKING:
    from pagemill.store.model_defaults import ModelDefaults
    from pagemill.store.remote import RemoteReference

GGUF_MAGIC = b"GGUF"
SAMPLE_BYTES = 2**20
S3_SCHEME = "s3://"
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
FOLDER_SNAPSHOT = "prefix.snapshot"
SNAPSHOT_SUFFIX = ".snapshot"
Format = Literal["gguf", "safetensors", "fake"]
Reference: TypeAlias = "ModelReference | RemoteReference"  # a model that is here, or is yet to be fetched


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
    defaults: "ModelDefaults | None" = field(default=None, repr=False, hash=False)  # if it was pulled or created
    kept: object = field(default=None, repr=False, compare=False)  # what the path needs, as long as the reference lives
    _digest: list[str] = field(default_factory=list, init=False, repr=False, compare=False)  # none or one
    _identity: list[str] = field(default_factory=list, init=False, repr=False, compare=False)  # likewise

    def weight_files(self) -> list[Path]:
        """Those that are loaded. Of a GGUF that is split: all files, also those that are missing."""
        if self.format == "safetensors":
            return _weight_files(self.path)
        from pagemill.store.split_gguf import all_names

        return [self.path.with_name(name) for name in all_names(self.path.name)]

    def files(self) -> list[Path]:
        """All that decide how the model answers: the weights, and a folder's configuration and tokenizer."""
        if self.format == "fake":
            return []
        others = _config_files(self.path) if self.format == "safetensors" else []
        return [*others, *self.weight_files()]

    def snapshot_path(self) -> Path:
        """Where the model's prefix snapshot is looked for."""
        return self.path / FOLDER_SNAPSHOT if self.format == "safetensors" else Path(f"{self.path}{SNAPSHOT_SUFFIX}")

    def identity(self) -> str:
        """ "sha256:" and a hash in hex that tells models apart at a glance: the digest where it came with the model,
        else a hash of the files' names, sizes, beginnings and ends. Reads little, but belongs on a thread.

        Raises:
            ModelLoadError: a file can't be read.
        """
        if not self._identity:
            self._identity.append("sha256:" + _sha256(self, _sample_sha256))
        return self._identity[0]

    def digest(self) -> str:
        """ "sha256:" and a hash in hex: of the file's content; of the names, sizes and contents of several files.
        The first call reads all of it: not on the event loop.

        Raises:
            ModelLoadError: a file can't be read.
        """
        if not self._digest:
            self._digest.append("sha256:" + _sha256(self, _file_sha256))
        return self._digest[0]


def resolve(model: str, served_model_name: Sequence[str] = (), *, backend: str = "auto") -> Reference:
    """The model of that name, file or folder (`resolve_local`), or at that place in S3, which is not asked."""
    base = model.removesuffix(f":{DEFAULT_TAG}")
    if base.startswith(S3_SCHEME):
        return _remote(base, served_model_name)
    return resolve_local(model, served_model_name, backend=backend)


def resolve_local(model: str, served_model_name: Sequence[str] = (), *, backend: str = "auto") -> ModelReference:
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
        return folder_reference(path, served_model_name or (path.resolve().name, model))
    if not path.is_file():
        what = f"it is not a built-in model ({DEMO_MODEL}), and there is no file or folder {path}"
        raise ModelNotFoundError(f"model {model!r} not found: {what}", param="model")
    return gguf_reference(path, served_model_name or (path.stem, model))


def with_tag(name: str) -> str:
    """The name with its tag: `grist` is `grist:latest`. A colon in a folder name is no tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:{DEFAULT_TAG}"


def _demo(model: str, names: Sequence[str], backend: str) -> ModelReference:
    folder = DEMO_FOLDER / DEMO_MODEL
    path = folder / (CONFIG if backend == "paged" else f"{DEMO_MODEL}-q8_0.gguf")
    if not path.is_file():
        raise ModelNotFoundError(f"model {model!r} not found: this installation lacks {path}", param="model")
    return folder_reference(folder, names) if backend == "paged" else gguf_reference(path, names)


def _remote(model: str, served_model_name: Sequence[str]) -> "RemoteReference":
    from pagemill.store.remote import RemoteReference
    from pagemill.store.s3_location import S3Location

    location = S3Location.parse(model)
    names = served_model_name or (location.name, model)
    return RemoteReference(names[0], _aliases(names), location)


def folder_reference(folder: Path, names: Sequence[str], *, kept: object = None) -> ModelReference:
    """Of a model folder. Clients may call it by any of `names`; the first is the one reported.

    Raises:
        ModelLoadError: it holds no model, or can't be read.
    """
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
    return ModelReference(names[0], _aliases(names), folder, "safetensors", size_bytes, modified_at, kept=kept)


def _what_it_is(folder: Path) -> str:
    gguf = sorted(folder.glob("*.gguf"))
    if gguf:
        return f"it has no {CONFIG}, but {len(gguf)} GGUF file(s); name one of them, as {gguf[0]}"
    return f"it has no {CONFIG}, which Hugging Face models have"


def is_model_folder(folder: Path) -> bool:
    """Whether there is a model in it; one that is incomplete is one too."""
    return (folder / CONFIG).is_file() and bool(_weight_files(folder))


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


def gguf_reference(
    path: Path,
    names: Sequence[str],
    *,
    kept: object = None,
    sha256: str | None = None,
    modified_at: datetime | None = None,
    defaults: "ModelDefaults | None" = None,
) -> ModelReference:
    """Of a GGUF file, whose SHA-256 may be known already, and when it came. Names as for a folder.

    Raises:
        ModelLoadError: it is no GGUF, or can't be read.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
        status = path.stat()
        size_bytes = status.st_size + sum(part.stat().st_size for part in _further_parts(path))
    except OSError as error:
        raise ModelLoadError(f"can't read the model file {path}: {error.strerror}") from error
    if magic != GGUF_MAGIC:
        raise ModelLoadError(f"{path} is not a GGUF file: it begins with {magic!r}, not {GGUF_MAGIC!r}")
    modified_at = modified_at or datetime.fromtimestamp(status.st_mtime, tz=UTC)
    reference = ModelReference(names[0], _aliases(names), path, "gguf", size_bytes, modified_at, defaults, kept)
    if sha256 is not None:
        for known in (reference._digest, reference._identity):
            known.append(f"sha256:{sha256}")
    return reference


def _further_parts(path: Path) -> list[Path]:
    """Of a GGUF that is split, those that are there."""
    if "-of-" not in path.name:
        return []
    from pagemill.store.split_gguf import all_names

    parts = (path.with_name(name) for name in all_names(path.name))
    return [part for part in parts if part != path and part.is_file()]


def _fake(served_model_name: Sequence[str]) -> ModelReference:
    names = served_model_name or (FAKE_MODEL,)
    return ModelReference(names[0], _aliases(names), Path(FAKE_MODEL), "fake", 0, datetime.fromtimestamp(0, tz=UTC))


def _aliases(names: Sequence[str]) -> tuple[str, ...]:
    aliases: dict[str, None] = {}
    for name in names:
        bare = name.removesuffix(f":{DEFAULT_TAG}")
        aliases |= dict.fromkeys((name, bare, with_tag(bare)))
    return tuple(aliases)


def _sha256(reference: ModelReference, hash_of: Callable[[Path], str]) -> str:
    import hashlib

    if reference.format == "fake":
        return hashlib.sha256(reference.name.encode()).hexdigest()
    try:
        files = reference.files()
        if reference.format == "gguf" and len(files) == 1:
            return hash_of(reference.path)
        lines = (f"{path.name} {path.stat().st_size} {hash_of(path)}\n" for path in files)
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
    except OSError as error:
        raise ModelLoadError(
            f"can't read the model file {error.filename or reference.path}: {error.strerror}"
        ) from error


def _sample_sha256(path: Path) -> str:
    import hashlib

    size = path.stat().st_size
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
        file.seek(max(SAMPLE_BYTES, size - SAMPLE_BYTES))
        sample += file.read(SAMPLE_BYTES)
    return hashlib.sha256(b"%d\n%b" % (size, sample)).hexdigest()


def _file_sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
