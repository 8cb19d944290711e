"""A fetch into memory: nothing touches a disk, and what maps the files uses those very pages. Owns no state."""

import os

from pagemill.store.fetching import Fetching, Found
from pagemill.store.memory_files import MemoryFiles, check_memory
from pagemill.store.references import ModelReference, folder_reference, gguf_reference
from pagemill.store.s3_client import S3Object
from pagemill.store.transfer import Download


def fetch_to_memory(fetching: Fetching) -> ModelReference:
    """The reference keeps the memory as long as it lives.

    Raises:
        ModelNotFoundError, ModelLoadError: as `fetch`; there is not enough memory.
    """
    files, found = fetching.look()
    check_memory(fetching.reference.location, sum(one.item.size_bytes for one in found))
    memory = MemoryFiles()
    try:
        downloads = [_open(memory, fetching, one) for one in found]
        fetching.transfer(downloads)
        for download in downloads:
            modified_at = download.item.modified_at.timestamp()
            os.utime(download.descriptor, (modified_at, modified_at))
        names = fetching.reference.aliases
        if files.is_folder:
            return folder_reference(memory.folder(), names, kept=memory)
        name = found[0].item.location.file_name
        path = memory.path(name) if len(found) == 1 else memory.folder() / name
        return gguf_reference(path, names, kept=memory, sha256=found[0].sha256)
    except BaseException:
        memory.close()
        raise


def _open(memory: MemoryFiles, fetching: Fetching, one: Found) -> Download[S3Object]:
    descriptor = memory.create(one.item.location.file_name, one.item.size_bytes)
    download = Download(one.item, descriptor, one.expected, journal=None)
    download.divide([], fetching.part_bytes(one))
    return download
