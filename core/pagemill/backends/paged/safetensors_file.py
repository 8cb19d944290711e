"""One .safetensors file: its header, checked against the file, and its tensors, mapped by the safetensors library.

The header is read here too, since the library's own words for a damaged file name neither tensor nor numbers. Format:
https://github.com/huggingface/safetensors#format
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pagemill.backends.paged.mapped_file import MappedFile
from pagemill.backends.paged.model_folder import DOWNLOAD_AGAIN, refuse_lfs_pointer
from pagemill.backends.paged.weight_file import DTYPES, TensorEntry
from pagemill.errors import ModelLoadError

LENGTH_BYTES = 8  # of the header's length, before the header
MAX_HEADER_BYTES = 100_000_000  # as in the library
METADATA = "__metadata__"
TORCH_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class _Extent(NamedTuple):
    """Where a tensor lies, in bytes from the header's end."""

    start: int
    end: int
    name: str


class SafetensorsFile:
    """See `WeightFile`."""

    def __init__(self, path: Path, entries: Mapping[str, TensorEntry], handle: Any) -> None:
        self.path = path
        self.entries = entries
        self._handle = handle
        self._mapped = MappedFile(path)

    @classmethod
    def open(cls, path: Path) -> "SafetensorsFile":
        """
        Raises:
            ModelLoadError: the file can't be read, is truncated or damaged, or has tensors of an unsupported type.
        """
        entries = _read_entries(path)
        try:
            handle = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ModelLoadError(f"{path} is damaged: {error}; {DOWNLOAD_AGAIN}") from error
        return cls(path, entries, handle)

    def load(self, name: str) -> Tensor:
        try:
            tensor: Tensor = self._handle.get_tensor(name)
        except (SafetensorError, RuntimeError, OSError) as error:
            raise ModelLoadError(f"can't read the tensor {name} of {self.path}: {error}") from error
        return tensor

    def release(self, name: str) -> None:
        tensor = self.load(name)
        self._mapped.release(tensor.data_ptr(), tensor.nbytes)

    def close(self) -> None:
        self._handle = None


def _read_entries(path: Path) -> dict[str, TensorEntry]:
    header, num_data_bytes = _read_header(path)
    extents = []
    entries = {}
    for name, declared in header.items():
        if name != METADATA:
            entries[name], extent = _entry(path, name, declared)
            extents.append(extent)
    _check_extents(path, sorted(extents), num_data_bytes)
    return entries


def _read_header(path: Path) -> tuple[dict[str, object], int]:
    """The header, and how many bytes of data follow it."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(LENGTH_BYTES)
            refuse_lfs_pointer(path, prefix)
            length = int.from_bytes(prefix, "little")
            if size < LENGTH_BYTES or length > min(MAX_HEADER_BYTES, size - LENGTH_BYTES):
                raise _damaged(path, f"it is {size} bytes long and its header would be {length}")
            text = file.read(length)
    except OSError as error:
        raise ModelLoadError(f"can't read {path}: {error.strerror}") from error
    try:
        header = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no JSON object")
    return header, size - LENGTH_BYTES - length


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is in it twice")
    return found


def _entry(path: Path, name: str, declared: object) -> tuple[TensorEntry, _Extent]:
    fields = declared if isinstance(declared, dict) else {}
    dtype_name, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype_name, str) or not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise _damaged(path, f"the header's entry of the tensor {name} is {str(declared)[:200]}")
    dtype = TORCH_DTYPES.get(dtype_name)
    if dtype not in DTYPES:
        supported = ", ".join(TORCH_DTYPES)
        raise ModelLoadError(f"the tensor {name} of {path} is {dtype_name}, which is not supported (but {supported})")
    entry = TensorEntry(dtype, tuple(shape))
    start, end = offsets
    needed = entry.num_elements * dtype.itemsize
    if end - start != needed:
        raise _damaged(path, f"the tensor {name}, {dtype_name} {shape}, needs {needed} bytes and has {end - start}")
    return entry, _Extent(start, end, name)


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _check_extents(path: Path, extents: list[_Extent], num_data_bytes: int) -> None:
    """The tensors fill the data, one after the other."""
    filled = 0
    for extent in extents:
        if extent.end > num_data_bytes:
            what = (
                f"the tensor {extent.name} ends at byte {extent.end} of the data, of which there are {num_data_bytes}"
            )
            raise _damaged(path, what)
        if extent.start != filled:
            relation = "overlaps the one before it" if extent.start < filled else "leaves a hole before it"
            what = f"the tensor {extent.name} begins at byte {extent.start} of the data, not at {filled}: it {relation}"
            raise _damaged(path, what)
        filled = extent.end
    if filled != num_data_bytes:
        raise _damaged(path, f"{num_data_bytes - filled} bytes follow its last tensor")


def _damaged(path: Path, reason: str) -> ModelLoadError:
    return ModelLoadError(f"{path} is truncated or damaged, or no safetensors file: {reason}; {DOWNLOAD_AGAIN}")
