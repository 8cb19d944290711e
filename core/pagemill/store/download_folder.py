"""A folder of copies of S3's objects: `s3/<bucket>/<key>`, with what is known of each in hidden files beside it.

    .NAME.origin   which object the copy is of, and how it was checked: written when it is whole

Owns those files, and those of a `PartialFile`. May not import boto3.
"""

import json
import os
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagemill.errors import ModelLoadError
from pagemill.store.partial_file import PartialFile
from pagemill.store.s3_location import S3Location

if TYPE_CHECKING:
    from pagemill.store.s3_client import S3Object

REMEDY = "set download_dir to another folder, or to memory"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a copy is of. `mtime_ns` is the file's: one that was touched since is none of ours any more."""

    etag: str
    size_bytes: int
    mtime_ns: int
    checked_by: str | None  # an algorithm
    sha256: str | None  # of the whole file, if that was it


class FileCopy(PartialFile):
    """The copy of one object, or where it is to be."""

    def __init__(self, root: Path, location: S3Location) -> None:
        super().__init__(location.below(root), location, REMEDY)
        self.location = location

    def origin(self) -> Origin | None:
        """None if there is no whole copy."""
        try:
            origin = Origin(**json.loads(self.beside("origin").read_bytes()))
            status = self.path.stat()
        except (OSError, ValueError, TypeError):
            return None
        return origin if (status.st_size, status.st_mtime_ns) == (origin.size_bytes, origin.mtime_ns) else None

    def is_of(self, item: "S3Object") -> bool:
        origin = self.origin()
        return origin is not None and (origin.etag, origin.size_bytes) == (item.etag, item.size_bytes)

    def keep(self, item: "S3Object", checked_by: str | None, sha256: str | None) -> None:
        """The unfinished file is whole, and checked."""
        part, origin = self.beside("part"), self.beside("origin")
        modified_ns = int(item.modified_at.timestamp()) * 10**9
        try:
            os.utime(part, ns=(modified_ns, modified_ns))
            mtime_ns = part.stat().st_mtime_ns  # as the file system keeps it
            origin.unlink(missing_ok=True)
            part.replace(self.path)
            write_json(origin, asdict(Origin(item.etag, item.size_bytes, mtime_ns, checked_by, sha256)))
            self.beside("journal").unlink(missing_ok=True)
        except OSError as error:
            raise self.cannot_write(error) from error


def forget_others(folder: Path, wanted: Iterable[Path], patterns: Iterable[str]) -> None:
    """Delete those copies that match a pattern and are not wanted any more. Files that are no copies stay.

    Raises:
        ModelLoadError: one can't be deleted.
    """
    kept = set(wanted)
    for path in {path for pattern in patterns for path in folder.glob(pattern)} - kept:
        origin = path.with_name(f".{path.name}.origin")
        if origin.exists():
            try:
                path.unlink(missing_ok=True)
                origin.unlink(missing_ok=True)
            except OSError as error:
                raise ModelLoadError(f"can't write to {folder}: {error.strerror}; {REMEDY}") from error


def write_json(path: Path, content: object) -> None:
    """At once, so that nobody reads a half of it."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    unfinished.write_text(json.dumps(content))
    unfinished.replace(path)
