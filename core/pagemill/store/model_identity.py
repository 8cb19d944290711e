"""Whether a model is the one that something was made from, told without reading it where that can be avoided.

Much as git's index does: while a file's size, its modification time and samples of its content are what they were, it
is taken for unchanged; the samples because builds may give all files one time, and all fine-tunes have one size. Else
the whole digest decides, at the speed of SHA-256. Owns no state.
"""

import os
import zlib
from pathlib import Path

from pagemill.errors import ModelLoadError
from pagemill.store.references import ModelReference

NS_PER_S = 10**9
NUM_SAMPLES = 16
SAMPLE_BYTES = 4096
FileRecord = tuple[str, int, int, int]  # name, bytes, CRC-32 of the samples, modification time in ns


def record_files(reference: ModelReference) -> tuple[FileRecord, ...]:
    """The records of the model's files.

    Raises:
        ModelLoadError: a file can't be read.
    """
    try:
        return tuple(_record(path) for path in reference.files())
    except OSError as error:
        raise ModelLoadError(f"can't read the model file {error.filename}: {error.strerror}") from error


def is_same_model(reference: ModelReference, digest: str, records: tuple[FileRecord, ...]) -> bool:
    """Whether the model has this digest. `records` are of the files that had it.

    Raises:
        ModelLoadError: a file can't be read.
    """
    present = record_files(reference)
    if len(present) == len(records) and all(map(_is_unchanged, records, present)) and records:
        return True
    return reference.digest() == digest


def _record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        samples = 0
        for index in range(NUM_SAMPLES):
            file.seek(max(0, status.st_size - SAMPLE_BYTES) * index // (NUM_SAMPLES - 1))
            samples = zlib.crc32(file.read(SAMPLE_BYTES), samples)
    return path.name, status.st_size, samples, status.st_mtime_ns


def _is_unchanged(before: FileRecord, now: FileRecord) -> bool:
    """Layers of images keep whole seconds of a modification time."""
    return before == now or (before[:3] == now[:3] and now[3] == before[3] // NS_PER_S * NS_PER_S)
