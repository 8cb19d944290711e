"""The file that holds the KV of a prefix: a head that says of what it is, and the bytes, which are mapped, not read.

    8 bytes     magic
    4 + 4       bytes of the head, and their CRC-32 (little endian, as all numbers)
    head        JSON, the fields of `SnapshotHead`
    ...         zeros, up to a whole page
    payload     `num_bytes` bytes, whose CRC-32 the head has

Owns no state. May not import an engine or a backend: what the payload means, the head's `identity` says, and a backend
knows.
"""

import json
import mmap
import os
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pagemill.errors import ModelLoadError
from pagemill.store.model_identity import FileRecord

MAGIC = b"pmill-kv"
FORMAT = 1  # of this file; others are refused
PAGE_BYTES = 4096
LENGTH_BYTES = 4
MAX_HEAD_BYTES = 64 * 2**20
PREAMBLE_BYTES = len(MAGIC) + 2 * LENGTH_BYTES
Identity = Mapping[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotHead:
    """What the payload is the KV of, and what it depends on."""

    format: int = FORMAT
    made_by: str  # "pagemill 1.2.3"
    model: str  # its name when the file was made
    model_digest: str  # as `ModelReference.digest`
    model_files: tuple[FileRecord, ...]
    backend: str
    identity: Identity  # as `Backend.kv_identity`
    token_ids: tuple[int, ...]
    num_bytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """An open snapshot. `data` is the payload, mapped: writable, but what is written stays in this process."""

    path: Path
    head: SnapshotHead
    data: memoryview

    def verify(self) -> None:
        """Read all of the payload, which also brings it into the page cache.

        Raises:
            ModelLoadError: it is damaged.
        """
        if zlib.crc32(self.data) != self.head.crc32:
            raise ModelLoadError(f"the prefix snapshot {self.path} is damaged: its checksum does not match")


def write_snapshot(path: Path, head: SnapshotHead, data: memoryview) -> int:
    """Write the file, whole or not at all, readable for everyone. Returns its size in bytes.

    Raises:
        ModelLoadError: it can't be written.
    """
    encoded = json.dumps(asdict(head), separators=(",", ":")).encode()
    preamble = MAGIC + _number(len(encoded)) + _number(zlib.crc32(encoded)) + encoded
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(preamble + bytes(-len(preamble) % PAGE_BYTES))
                file.write(data)
                os.fchmod(file.fileno(), 0o644)
                file.flush()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
            return file.tell()
    except OSError as error:
        raise ModelLoadError(f"can't write the prefix snapshot {path}: {error.strerror}") from error


def open_snapshot(path: Path) -> SnapshotFile:
    """Read the head and map the payload, which is not looked at yet.

    Raises:
        ModelLoadError: there is no such file, it is no snapshot or of another format, or it is cut short; names it.
    """
    try:
        with path.open("rb") as file:
            preamble = file.read(PREAMBLE_BYTES)
            head = _head(path, preamble, file.read(min(_head_bytes(preamble), MAX_HEAD_BYTES)))
            start = -(-(PREAMBLE_BYTES + _head_bytes(preamble)) // PAGE_BYTES) * PAGE_BYTES
            size = os.fstat(file.fileno()).st_size
            if size != start + head.num_bytes:
                raise ModelLoadError(
                    f"the prefix snapshot {path} is damaged: it has {size} bytes, not {start + head.num_bytes}"
                )
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise ModelLoadError(f"can't read the prefix snapshot {path}: {error.strerror}") from error
    return SnapshotFile(path, head, memoryview(mapped)[start:])


def _head_bytes(preamble: bytes) -> int:
    return int.from_bytes(preamble[len(MAGIC) : len(MAGIC) + LENGTH_BYTES], "little")


def _head(path: Path, preamble: bytes, encoded: bytes) -> SnapshotHead:
    if not preamble.startswith(MAGIC):
        raise ModelLoadError(f"{path} is not a prefix snapshot: it begins with {preamble[: len(MAGIC)]!r}")
    if preamble[len(MAGIC) + LENGTH_BYTES :] != _number(zlib.crc32(encoded)):
        raise ModelLoadError(f"the prefix snapshot {path} is damaged: its head's checksum does not match")
    values = json.loads(encoded)
    if values["format"] != FORMAT:
        raise ModelLoadError(
            f"the prefix snapshot {path} has format {values['format']}, this version of Pagemill reads {FORMAT}"
        )
    values["model_files"] = tuple(tuple(file) for file in values["model_files"])
    values["token_ids"] = tuple(values["token_ids"])
    return SnapshotHead(**{field.name: values[field.name] for field in fields(SnapshotHead)})


def _number(value: int) -> bytes:
    return value.to_bytes(LENGTH_BYTES, "little")
