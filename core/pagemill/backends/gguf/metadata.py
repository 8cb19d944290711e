"""The key-value pairs in a GGUF file's header, arrays included: what `/api/show` reports.

llama.cpp's API gives scalars only, and reading a vocabulary of 150k strings in Python takes a quarter of a second. So
`FileMetadata` reads the file when it is first asked, not when the model loads. May not import llama_cpp.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock

from pagemill.errors import ModelLoadError

MAGIC = b"GGUF"
STRING, ARRAY = 8, 9
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


def read_metadata(path: Path) -> dict[str, object]:
    """Read the pairs of a GGUF file (version 2 or later, little-endian).

    Raises:
        ModelLoadError: the file can't be read, or isn't GGUF, or ends too early.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).pairs()
    except OSError as error:
        raise ModelLoadError(f"can't read {path}: {error.strerror}") from error
    except (struct.error, ValueError, KeyError, OverflowError) as error:
        raise ModelLoadError(f"{path} has no valid GGUF header: {error}") from error


class _Reader:
    """A cursor over the header's bytes."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._offset = 0

    def pairs(self) -> dict[str, object]:
        if self._data[:4] != MAGIC:
            raise ValueError("it does not begin with GGUF")
        self._offset = 4
        version, _num_tensors, num_pairs = self._unpack("IQQ")
        if not 2 <= version <= 255:  # a big-endian file reads as a huge number
            raise ValueError(f"unsupported version {version}")
        return dict(self._pair() for _ in range(num_pairs))

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

    def _array(self) -> list[object]:
        kind, count = self._unpack("IQ")
        if count > len(self._data):
            raise ValueError(f"an array of {count} items is longer than the file")
        if kind in (STRING, ARRAY):
            return [self._value(kind) for _ in range(count)]
        return list(self._unpack(f"{count}{SCALARS[kind]}"))

    def _string(self) -> str:
        (length,) = self._unpack("Q")
        if length > len(self._data) - self._offset:
            raise ValueError("a string is longer than the file")
        start, self._offset = self._offset, self._offset + length
        return self._data[start : self._offset].decode("utf-8", errors="replace")

    def _unpack(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from("<" + layout, self._data, self._offset)
        self._offset += struct.calcsize("<" + layout)
        return values
