"""A file that is being fetched, beside the place where it is to be, so that a killed fetch can go on.

    .NAME.part     what is here of it
    .NAME.journal  which bytes of it these are
    .NAME.lock     held by who fetches it, so that others wait

A `PartialFile` owns those files.
"""

import fcntl
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pagemill.errors import ModelLoadError, NoSpaceError
from pagemill.store.disk import not_written
from pagemill.store.journal import Journal, Run
from pagemill.store.progress import MB

logger = logging.getLogger(__name__)

LOCK_EVERY_S = 0.1


class PartialFile:
    """`what` is what is fetched, `remedy` what to do if the folder is none for it; both are for messages."""

    def __init__(self, path: Path, what: object, remedy: str) -> None:
        self.path = path
        self.journal = Journal(self.beside("journal"))
        self._what = what
        self._remedy = remedy

    @contextmanager
    def locked(self, stopped: threading.Event) -> Iterator[None]:
        """While no other process, or thread, fetches it.

        Raises:
            ModelLoadError: the folder can't be written, its file system has no locks, or we are stopped while we wait.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.beside("lock"), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise self.cannot_write(error) from error
        try:
            self._wait_for_lock(descriptor, stopped)
            yield
        finally:
            os.close(descriptor)

    def open(self, identity: str, size_bytes: int) -> tuple[int, list[Run]]:
        """A descriptor of the unfinished file, with room for all, and what of it is here. The journal is open too.
        `identity` tells the bytes of one file from those of another.

        Raises:
            ModelLoadError: it can't be written.
        """
        part = self.beside("part")
        try:
            if not part.exists():
                self.discard()  # a journal would tell of bytes that are gone
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            runs = self.journal.open(identity, size_bytes)
            os.truncate(descriptor, size_bytes)
        except OSError as error:
            raise self.cannot_write(error) from error
        return descriptor, runs

    def finish(self) -> None:
        """The unfinished file is whole: put it in its place. Who waits for the lock finds it there.

        Raises:
            ModelLoadError: it can't be written.
        """
        try:
            self.beside("part").replace(self.path)
            for kind in ("journal", "lock"):
                self.beside(kind).unlink(missing_ok=True)
        except OSError as error:
            raise self.cannot_write(error) from error

    def discard(self) -> None:
        for kind in ("part", "journal"):
            self.beside(kind).unlink(missing_ok=True)

    def beside(self, kind: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{kind}")

    def check_space(self, needed_bytes: int) -> None:
        """
        Raises:
            NoSpaceError: the disk has not so much room; says how much it has.
        """
        folder = self.path.parent
        free = shutil.disk_usage(folder).free
        if needed_bytes > free:
            raise NoSpaceError(
                f"can't fetch {self._what} to {folder}: it needs {needed_bytes / MB:.0f} MB more, and "
                f"{free / MB:.0f} MB are free; {self._remedy}"
            )

    def cannot_write(self, error: OSError) -> ModelLoadError:
        return not_written(error, f"can't write to {self.path.parent}: {error.strerror}; {self._remedy}")

    def _wait_for_lock(self, descriptor: int, stopped: threading.Event) -> None:
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    logger.info("somebody else fetches %s to %s: waiting for it", self._what, self.path)
                told = True
            except OSError as error:
                raise ModelLoadError(f"can't lock {self.beside('lock')}: {error.strerror}; {self._remedy}") from error
            else:
                return
            if stopped.wait(LOCK_EVERY_S):
                raise ModelLoadError(f"can't fetch {self._what}: it was stopped")
