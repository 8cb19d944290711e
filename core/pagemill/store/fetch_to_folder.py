"""A fetch into a folder of copies, which later starts use again.

Owns `.NAME.model`, beside a model's file or folder: what it was made of when it was last fetched, for when S3 can't be
reached.
"""

import json
import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pagemill.store.download_folder import FileCopy, forget_others, write_json
from pagemill.store.fetching import Fetching, Found
from pagemill.store.references import CONFIG_FILES, WEIGHTS, ModelReference, folder_reference, gguf_reference
from pagemill.store.remote import RemoteReference
from pagemill.store.s3_errors import UnreachableError
from pagemill.store.s3_files import ModelFiles
from pagemill.store.s3_location import S3Location
from pagemill.store.transfer import Download
from pagemill.store.verification import ChecksumError

if TYPE_CHECKING:
    from pagemill.store.s3_client import S3Object

logger = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """An object, and where it is to be."""

    one: Found
    copy: FileCopy

    @property
    def is_here(self) -> bool:
        return self.copy.is_of(self.one.item)


def fetch_to_folder(fetching: Fetching, root: Path) -> ModelReference:
    """Without S3, a whole copy from an earlier fetch is used as it is.

    Raises:
        ModelNotFoundError, ModelLoadError: as `fetch`; the folder can't be written, or has no room.
    """
    location = fetching.reference.location
    try:
        files, found = fetching.look()
    except UnreachableError as error:
        kept = _kept_files(root, location)
        if kept is None:
            raise
        logger.warning("%s; using the copy that was fetched before", error)
        return _reference(fetching.reference, root, kept)
    wanted = [Wanted(one, FileCopy(root, one.item.location)) for one in found]
    missing = [item for item in wanted if not item.is_here]
    if missing:
        _fetch_copies(fetching, missing)
    else:
        logger.info("%s is here already", location)
    if _kept_files(root, location) != files:
        _remember_files(root, location, files)
    if files.is_folder:  # what belonged to the model once would still count as a part of it
        paths = [item.copy.path for item in wanted]
        forget_others(paths[0].parent, paths, (*CONFIG_FILES, *WEIGHTS))
    return _reference(fetching.reference, root, files)


def _fetch_copies(fetching: Fetching, wanted: Sequence[Wanted]) -> None:
    """Of several processes that want the same, one fetches and the others wait for it."""
    progress = fetching.reference.progress
    with ExitStack() as stack:
        for item in sorted(wanted, key=lambda item: item.copy.path):  # all in one order, so that none wait in a circle
            stack.enter_context(item.copy.locked(progress.stopped))
        missing = [item for item in wanted if not item.is_here]
        if not missing:
            return
        downloads = [_open(stack, fetching, item) for item in missing]
        needed = sum(download.num_missing_bytes for download in downloads)
        missing[0].copy.check_space(needed)
        try:
            fetching.transfer(downloads)
        except ChecksumError as error:
            for item in missing:
                if item.one.item == error.item:
                    item.copy.discard()
            raise
        for item in missing:
            item.copy.keep(item.one.item, item.one.checked_by, item.one.sha256)


def _open(stack: ExitStack, fetching: Fetching, item: Wanted) -> "Download[S3Object]":
    one, copy = item
    descriptor, runs = copy.open(one.item.etag, one.item.size_bytes)
    stack.callback(os.close, descriptor)
    stack.callback(copy.journal.close)
    download = Download(one.item, descriptor, one.expected, copy.journal)
    download.divide(runs, fetching.part_bytes(one))
    return download


def _reference(reference: RemoteReference, root: Path, files: ModelFiles) -> ModelReference:
    main = FileCopy(root, files.locations[0])
    if files.is_folder:
        return folder_reference(main.path.parent, reference.aliases)
    origin = main.origin()
    return gguf_reference(main.path, reference.aliases, sha256=None if origin is None else origin.sha256)


def _remember_files(root: Path, location: S3Location, files: ModelFiles) -> None:
    keys = [file.key for file in files.locations]
    try:
        write_json(_memory_of(root, location), {"keys": keys, "is_folder": files.is_folder})
    except OSError as error:  # of a folder that may only be read, where all is there already
        logger.info("without S3, this copy of %s won't be used: can't note what it is of: %s", location, error.strerror)


def _kept_files(root: Path, location: S3Location) -> ModelFiles | None:
    """What the model was made of, if all of it is here."""
    try:
        content = json.loads(_memory_of(root, location).read_bytes())
        files = ModelFiles([S3Location(location.bucket, key) for key in content["keys"]], content["is_folder"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    whole = all(FileCopy(root, file).origin() is not None for file in files.locations)
    return files if whole else None


def _memory_of(root: Path, location: S3Location) -> Path:
    path = location.below(root)
    return path.with_name(f".{path.name}.model")
