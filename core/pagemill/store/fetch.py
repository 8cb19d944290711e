"""From a model in S3 to one on this machine: in a folder of copies, or in memory.

Owns no state. Everything here blocks, so it belongs on the load's thread; boto3 is imported when something is fetched.
"""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pagemill.errors import ModelLoadError
from pagemill.store.references import ModelReference
from pagemill.store.remote import FetchOptions, RemoteReference

if TYPE_CHECKING:
    from pagemill.store.fetching import Fetching

logger = logging.getLogger(__name__)

MEMORY = "memory"


def fetch(reference: RemoteReference, options: FetchOptions) -> ModelReference:
    """Bring the model here, or find that it is here already. It keeps the names that the reference gives it.

    Raises:
        ModelNotFoundError: there is no such bucket or object.
        ModelLoadError: it can't be had, or came damaged; names the object and the reason.
    """
    try:
        from pagemill.store.fetching import Fetching
    except ImportError as error:
        raise ModelLoadError(f"models in S3 need boto3: pip install 'pagemill[aws]' ({error})") from error
    from pagemill.store.s3_errors import SizeError

    fetching = Fetching(reference, options)
    folder = _folder(options.download_dir)
    for _ in range(options.max_retries):
        try:
            return _fetch(fetching, folder)
        except SizeError as error:  # an answer that was cut within its headers may tell a wrong size
            logger.info("%s: looking again", error)
    return _fetch(fetching, folder)


def _fetch(fetching: "Fetching", folder: Path | None) -> ModelReference:
    if folder is None:
        from pagemill.store.fetch_to_memory import fetch_to_memory

        return fetch_to_memory(fetching)
    from pagemill.store.fetch_to_folder import fetch_to_folder

    return fetch_to_folder(fetching, folder)


def _folder(download_dir: str | None) -> Path | None:
    """Where copies are kept; None for memory. Without a setting, memory also serves if the cache can't be written."""
    if download_dir is not None:
        return None if download_dir == MEMORY else Path(download_dir).expanduser()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "pagemill" / "models"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = None if os.access(folder, os.W_OK) else "Permission denied"
    except OSError as error:
        reason = error.strerror
    if reason is None:
        return folder
    logger.warning("can't write to %s (%s), and there is no download_dir: fetching into memory", folder, reason)
    return None
