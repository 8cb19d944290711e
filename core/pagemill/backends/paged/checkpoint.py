"""A model folder of Hugging Face, opened: its configuration, and its tensors by name, whatever files they lie in.

All that can be checked without reading the weights is checked when it is opened, so that what is wrong is said before
the server is ready. Owns the open files; tensors that were loaded stay valid when it is closed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from pagemill.backends.paged.model_folder import (
    DOWNLOAD_AGAIN,
    WeightFiles,
    find_weight_files,
    read_config,
    read_optional_json,
)
from pagemill.backends.paged.pickle_file import PickleFile
from pagemill.backends.paged.safetensors_file import SafetensorsFile
from pagemill.backends.paged.weight_file import TensorEntry, WeightFile
from pagemill.errors import ModelLoadError


class Checkpoint:
    """`config` and `generation_config` are the files' contents, the latter {} if there is none."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        generation_config: Mapping[str, Any],
        files: Mapping[str, WeightFile],
    ) -> None:
        self.folder = folder
        self.config = config
        self.generation_config = generation_config
        self._files = files  # by tensor name
        self._size_bytes = sum(path.stat().st_size for path in {file.path for file in files.values()})

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open all files, and check them as far as their headers allow.

        Raises:
            ModelLoadError: the folder is no model that can be run here, or a file is missing, truncated or damaged;
                names the file, and the tensor or number.
        """
        config = read_config(folder)
        generation_config = read_optional_json(folder / "generation_config.json")
        weights = find_weight_files(folder)
        with ExitStack() as opened:
            files = []
            for path in weights.paths:
                files.append(open_weight_file(path))
                opened.callback(files[-1].close)
            by_tensor = _by_tensor(files)
            _check_index(weights, by_tensor)
            if not by_tensor:
                raise ModelLoadError(f"{weights.paths[0]} holds no tensors; {DOWNLOAD_AGAIN}")
            opened.pop_all()
        return cls(folder, config, generation_config, by_tensor)

    def names(self) -> tuple[str, ...]:
        """All tensors, file by file, in the order of each file."""
        return tuple(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entry(name).shape

    def dtype_of(self, name: str) -> torch.dtype:
        """As the file has it."""
        return self._entry(name).dtype

    def file_of(self, name: str) -> Path:
        return self._file(name).path

    def load(self, name: str) -> Tensor:
        """The tensor on the CPU, in the file's dtype, mapped: its bytes are read when they are first used.

        Raises:
            ModelLoadError: there is no such tensor.
        """
        return self._file(name).load(name)

    def release(self, name: str) -> None:
        """Say that a loaded tensor has been copied, so that it need not stay in memory."""
        self._file(name).release(name)

    def expect(self, name: str, shape: Sequence[int]) -> None:
        """
        Raises:
            ModelLoadError: there is no such tensor, or its shape is another.
        """
        found = self.shape(name)
        if found != tuple(shape):
            raise ModelLoadError(
                f"the tensor {name} of {self.file_of(name)} has the shape {list(found)}, "
                f"but {self.folder / 'config.json'} asks for {list(shape)}: the two do not belong together"
            )

    @property
    def dtype(self) -> torch.dtype:
        """What most of the parameters are stored as, of the floating types.

        Raises:
            ModelLoadError: no tensor is of a floating type.
        """
        counts: Counter[torch.dtype] = Counter()
        for entry in self._entries():
            if entry.dtype.is_floating_point:
                counts[entry.dtype] += entry.num_elements
        if not counts:
            raise ModelLoadError(f"{self.folder} has no weights of a floating type")
        return counts.most_common(1)[0][0]

    @property
    def num_parameters(self) -> int:
        """Elements of all floating tensors; what is tied is there once, if the folder was saved so."""
        return sum(entry.num_elements for entry in self._entries() if entry.dtype.is_floating_point)

    @property
    def size_bytes(self) -> int:
        """Of the files of weights, on disk."""
        return self._size_bytes

    def close(self) -> None:
        """Let go of the files. Idempotent."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _entries(self) -> list[TensorEntry]:
        return [file.entries[name] for name, file in self._files.items()]

    def _entry(self, name: str) -> TensorEntry:
        return self._file(name).entries[name]

    def _file(self, name: str) -> WeightFile:
        file = self._files.get(name)
        if file is None:
            raise ModelLoadError(f"{self.folder} lacks the tensor {name}, which its config.json asks for")
        return file


def open_weight_file(path: Path) -> WeightFile:
    """
    Raises:
        ModelLoadError: it can't be read, or is damaged; names it.
    """
    return SafetensorsFile.open(path) if path.suffix == ".safetensors" else PickleFile.open(path)


def _by_tensor(files: Sequence[WeightFile]) -> dict[str, WeightFile]:
    found: dict[str, WeightFile] = {}
    for file in files:
        for name in file.entries:
            if name in found:
                raise ModelLoadError(
                    f"the tensor {name} is both in {found[name].path} and in {file.path}; {DOWNLOAD_AGAIN}"
                )
            found[name] = file
    return found


def _check_index(weights: WeightFiles, files: Mapping[str, WeightFile]) -> None:
    """What the index names is where it says."""
    for name, file_name in (weights.weight_map or {}).items():
        file = files.get(name)
        if file is None or file.path.name != file_name:
            where = "in none of the files" if file is None else f"in {file.path.name}"
            raise ModelLoadError(
                f"{weights.index} says that the tensor {name} is in {file_name}, but it is {where}; {DOWNLOAD_AGAIN}"
            )
