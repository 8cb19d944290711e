"""Files that are only in memory, for machines that have no room on a disk, or none that may be written.

A `MemoryFiles` owns their descriptors, by which alone they are reached, and a folder of links where there must be one.
They go when it goes: whoever uses the paths keeps it.
"""

import os
import shutil
import tempfile
import weakref
from pathlib import Path

from pagemill.errors import ModelLoadError
from pagemill.machine import available_memory_bytes
from pagemill.store.progress import MB


class MemoryFiles:
    """Linux only: elsewhere there is no memfd_create."""

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}
        self._folders: list[Path] = []
        self._closing = weakref.finalize(self, _close, self._descriptors, self._folders)

    def create(self, name: str, size_bytes: int) -> int:
        """A new file of that size; its descriptor.

        Raises:
            ModelLoadError: this system has no such files.
        """
        if not hasattr(os, "memfd_create"):
            raise ModelLoadError("download_dir is memory, which only Linux has; set it to a folder")
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
        self._descriptors[name] = descriptor
        os.truncate(descriptor, size_bytes)
        return descriptor

    def path(self, name: str) -> Path:
        """By which this process can open the file, and no other."""
        return Path(f"/proc/self/fd/{self._descriptors[name]}")

    def folder(self) -> Path:
        """A folder with a link to each file, by its name. The links take no room to speak of.

        Raises:
            ModelLoadError: there is no place for such a folder.
        """
        try:
            folder = Path(tempfile.mkdtemp(prefix="pagemill-"))
            self._folders.append(folder)
            for name in self._descriptors:
                (folder / name).symlink_to(self.path(name))
        except OSError as error:
            reason = f"a model of several files needs a place for links to them: {error.strerror}"
            raise ModelLoadError(f"can't keep the model in memory: {reason}; set TMPDIR") from error
        return folder

    def close(self) -> None:
        """Let the files go; what maps one still has it. Idempotent."""
        self._closing()


def check_memory(what: object, needed_bytes: int) -> None:
    """
    Raises:
        ModelLoadError: there is not so much; says how much there is.
    """
    free = available_memory_bytes()
    if needed_bytes > free:
        raise ModelLoadError(
            f"can't fetch {what} into memory: it has {needed_bytes / MB:.0f} MB, and {free / MB:.0f} MB are free; "
            "set download_dir to a folder, or give this process more memory"
        )


def _close(descriptors: dict[str, int], folders: list[Path]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
