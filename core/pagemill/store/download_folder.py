"""A folder of copies of S3's objects: `s3/<bucket>/<key>`, with what is known of each in hidden files beside it.

    .NAME.origin   which object the copy is of, and how it was checked: written when it is whole
    .NAME.part     what is here of one that is not whole
    .NAME.journal  which bytes of it these are
    .NAME.lock     held by the process that fetches it, so that others wait

Owns those files. May not import boto3.
"""

import fcntl
import json
import logging
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagemill.errors import ModelLoadError
from pagemill.store.journal import Journal, Run
from pagemill.store.progress import MB
from pagemill.store.s3_location import S3Location

if TYPE_CHECKING:
    from pagemill.store.s3_client import S3Object

logger = logging.getLogger(__name__)

LOCK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Origin:
    """What a copy is of. `mtime_ns` is the file's: one that was touched since is none of ours any more."""

    etag: str
    size_bytes: int
    mtime_ns: int
    checked_by: str | None  # an algorithm
    sha256: str | None  # of the whole file, if that was it


class FileCopy:
    """The copy of one object, or where it is to be."""

    def __init__(self, root: Path, location: S3Location) -> None:
        self.location = location
        self.path = location.below(root)
        self.journal = Journal(self._beside("journal"))

    def origin(self) -> Origin | None:
        """None if there is no whole copy."""
        try:
            origin = Origin(**json.loads(self._beside("origin").read_bytes()))
            status = self.path.stat()
        except (OSError, ValueError, TypeError):
            return None
        return origin if (status.st_size, status.st_mtime_ns) == (origin.size_bytes, origin.mtime_ns) else None

    def is_of(self, item: "S3Object") -> bool:
        origin = self.origin()
        return origin is not None and (origin.etag, origin.size_bytes) == (item.etag, item.size_bytes)

    @contextmanager
    def locked(self, stopped: threading.Event) -> Iterator[None]:
        """While no other process, or thread, fetches it.

        Raises:
            ModelLoadError: the folder can't be written, its file system has no locks, or we are stopped while we wait.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._beside("lock"), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _cannot_write(self.path.parent, error) from error
        try:
            self._wait_for_lock(descriptor, stopped)
            yield
        finally:
            os.close(descriptor)

    def open_part(self, item: "S3Object") -> tuple[int, list[Run]]:
        """A descriptor of the unfinished file, with room for all, and what of it is here. The journal is open too.

        Raises:
            ModelLoadError: it can't be written.
        """
        part = self._beside("part")
        try:
            if not part.exists():
                self.discard_part()  # a journal would tell of bytes that are gone
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT, 0o644)
            runs = self.journal.open(item.etag, item.size_bytes)
            os.truncate(descriptor, item.size_bytes)
        except OSError as error:
            raise _cannot_write(self.path.parent, error) from error
        return descriptor, runs

    def keep(self, item: "S3Object", checked_by: str | None, sha256: str | None) -> None:
        """The unfinished file is whole, and checked."""
        part, origin = self._beside("part"), self._beside("origin")
        modified_ns = int(item.modified_at.timestamp()) * 10**9
        try:
            os.utime(part, ns=(modified_ns, modified_ns))
            mtime_ns = part.stat().st_mtime_ns  # as the file system keeps it
            origin.unlink(missing_ok=True)
            part.replace(self.path)
            write_json(origin, asdict(Origin(item.etag, item.size_bytes, mtime_ns, checked_by, sha256)))
            self._beside("journal").unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_write(self.path.parent, error) from error

    def discard_part(self) -> None:
        for kind in ("part", "journal"):
            self._beside(kind).unlink(missing_ok=True)

    def _beside(self, kind: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{kind}")

    def _wait_for_lock(self, descriptor: int, stopped: threading.Event) -> None:
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    logger.info("another process fetches %s to %s: waiting for it", self.location, self.path)
                told = True
            except OSError as error:
                raise ModelLoadError(
                    f"can't lock {self._beside('lock')}: {error.strerror}; set download_dir to a folder on another "
                    "file system, or to memory"
                ) from error
            else:
                return
            if stopped.wait(LOCK_EVERY_S):
                raise ModelLoadError(f"can't fetch {self.location}: it was stopped")


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
                raise _cannot_write(folder, error) from error


def check_space(folder: Path, what: object, needed_bytes: int) -> None:
    """
    Raises:
        ModelLoadError: the disk has not so much room; says how much it has.
    """
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise ModelLoadError(
            f"can't fetch {what} to {folder}: it needs {needed_bytes / MB:.0f} MB more, and {free / MB:.0f} MB are "
            "free; set download_dir to another folder, or to memory"
        )


def write_json(path: Path, content: object) -> None:
    """At once, so that nobody reads a half of it."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    unfinished.write_text(json.dumps(content))
    unfinished.replace(path)


def _cannot_write(folder: Path, error: OSError) -> ModelLoadError:
    return ModelLoadError(
        f"can't write to {folder}: {error.strerror}; set download_dir to a folder that can be written, or to memory"
    )
