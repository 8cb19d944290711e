"""What a GGUF file's header says: its key-value pairs, arrays included, for `/api/show`; and what its tensors take.

llama.cpp's API gives scalars only, and reading a vocabulary of 150k strings in Python takes a quarter of a second. So
`FileMetadata` reads the file when it is first asked, not when the model loads. May not import llama_cpp.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeVar

from pagemill.errors import ModelLoadError

MAGIC = b"GGUF"
STRING, ARRAY = 8, 9
MAX_SHORT_ARRAY = 4096  # items; what is given for each layer is shorter
DEFAULT_ALIGNMENT = 32
T = TypeVar("T")
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class FileMetadata(Mapping[str, object]):
    """All pairs of one file, by key; read at the first use, from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, object] | None = None
        self._lock = Lock()

    def __getitem__(self, key: str) -> object:
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, object]:
        with self._lock:
            if self._values is None:
                self._values = read_metadata(self._path)
            return self._values


class LongArray(NamedTuple):
    """Stands for an array that was not read."""

    num_items: int


class Header(NamedTuple):
    """A header without its long arrays (the vocabulary), which takes a fraction of the time to read."""

    values: Mapping[str, object]
    tensors: Sequence["TensorExtent"]


class TensorExtent(NamedTuple):
    """What a file says of a tensor, without its values."""

    name: str
    kind: int  # enum ggml_type
    shape: tuple[int, ...]  # a row's length first
    num_bytes: int


def read_metadata(path: Path) -> dict[str, object]:
    """Read the pairs of a GGUF file (version 2 or later, little-endian).

    Raises:
        ModelLoadError: the file can't be read, or isn't GGUF, or ends too early.
    """
    return _read(path, lambda data: _Reader(data).pairs())


def read_header(path: Path) -> Header:
    """Read what estimates go by. Raises as `read_metadata`."""
    return _read(path, lambda data: _Reader(data, max_array=MAX_SHORT_ARRAY).header())


def _read(path: Path, read: Callable[[mmap.mmap], T]) -> T:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return read(data)
    except OSError as error:
        raise ModelLoadError(f"can't read {path}: {error.strerror}") from error
    except (struct.error, ValueError, KeyError, OverflowError) as error:
        raise ModelLoadError(f"{path} has no valid GGUF header: {error}") from error


class _Declared(NamedTuple):
    """A tensor as the header declares it. `offset` is of its values, from where the first may begin."""

    name: str
    kind: int
    shape: tuple[int, ...]
    offset: int


class _Reader:
    """A cursor over the header's bytes. Of an array with more than `max_array` items only the length is read."""

    def __init__(self, data: mmap.mmap, *, max_array: int | None = None) -> None:
        self._data = data
        self._max_array = max_array
        self._offset = 0
        self._num_tensors = 0

    def pairs(self) -> dict[str, object]:
        if self._data[:4] != MAGIC:
            raise ValueError("it does not begin with GGUF")
        self._offset = 4
        version, self._num_tensors, num_pairs = self._unpack("IQQ")
        if not 2 <= version <= 255:  # a big-endian file reads as a huge number
            raise ValueError(f"unsupported version {version}")
        return dict(self._pair() for _ in range(num_pairs))

    def header(self) -> Header:
        values = self.pairs()
        found = sorted((self._tensor() for _ in range(self._num_tensors)), key=lambda tensor: tensor.offset)
        alignment = values.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"general.alignment is {alignment}")
        data_bytes = len(self._data) - -(-self._offset // alignment) * alignment
        ends = [tensor.offset for tensor in found[1:]] + [data_bytes]
        tensors = []
        for tensor, end in zip(found, ends, strict=False):  # a file of a split one's pairs has no tensors
            if end < tensor.offset:
                raise ValueError("it ends before its last tensor")
            tensors.append(TensorExtent(tensor.name, tensor.kind, tensor.shape, end - tensor.offset))
        return Header(values, tensors)

    def _tensor(self) -> "_Declared":
        name = self._string()
        (num_dimensions,) = self._unpack("I")
        shape = self._unpack(f"{num_dimensions}Q")
        kind, offset = self._unpack("IQ")
        return _Declared(name, kind, shape, offset)

    def _pair(self) -> tuple[str, object]:
        key = self._string()
        (kind,) = self._unpack("I")
        return key, self._value(kind)

    def _value(self, kind: int) -> object:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            return self._array()
        return self._unpack(SCALARS[kind])[0]

    def _array(self) -> object:
        kind, count = self._unpack("IQ")
        if count > len(self._data):
            raise ValueError(f"an array of {count} items is longer than the file")
        if self._max_array is not None and count > self._max_array and kind != ARRAY:
            self._skip_items(kind, count)
            return LongArray(count)
        if kind in (STRING, ARRAY):
            return [self._value(kind) for _ in range(count)]
        return list(self._unpack(f"{count}{SCALARS[kind]}"))

    def _skip_items(self, kind: int, count: int) -> None:
        if kind == STRING:
            for _ in range(count):
                self._skip_string()
        else:
            self._offset += count * struct.calcsize("<" + SCALARS[kind])

    def _string(self) -> str:
        start = self._skip_string()
        return self._data[start : self._offset].decode("utf-8", errors="replace")

    def _skip_string(self) -> int:
        """Where its bytes begin."""
        (length,) = self._unpack("Q")
        if length > len(self._data) - self._offset:
            raise ValueError("a string is longer than the file")
        start, self._offset = self._offset, self._offset + length
        return start

    def _unpack(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from("<" + layout, self._data, self._offset)
        self._offset += struct.calcsize("<" + layout)
        return values
