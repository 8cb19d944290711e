"""One fetch of a model: what it is made of in S3, and the transfer of its objects; wherever they go.

A `Fetching` owns its client. Imports boto3, through `s3_client`.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from pagemill.errors import ModelLoadError
from pagemill.store.daemons import in_parallel
from pagemill.store.remote import FetchOptions, RemoteReference
from pagemill.store.s3_client import S3Client, S3Object
from pagemill.store.s3_files import ModelFiles, find_files
from pagemill.store.s3_location import S3Location
from pagemill.store.transfer import Download, Transfer, part_bytes_of
from pagemill.store.verification import Expected, choose

logger = logging.getLogger(__name__)


class Found(NamedTuple):
    """An object, and what to check it by."""

    item: S3Object
    expected: Expected | None

    @property
    def checked_by(self) -> str | None:
        return None if self.expected is None else self.expected.algorithm

    @property
    def sha256(self) -> str | None:
        """Of the whole object in hex, if that is what it is checked by."""
        is_whole = self.expected is not None and self.expected[::2] == ("SHA256", None)
        return self.expected.value.hex() if self.expected is not None and is_whole else None


class Fetching:
    """See the module."""

    def __init__(self, reference: RemoteReference, options: FetchOptions) -> None:
        self.reference = reference
        self.options = options
        self._client = S3Client(
            max_connections=options.concurrency,
            timeout_s=options.timeout_s,
            max_retries=options.max_retries,
            stopped=reference.progress.stopped,
        )

    def look(self) -> tuple[ModelFiles, list[Found]]:
        """What the model is made of, as S3 has it now.

        Raises:
            ModelNotFoundError, ModelLoadError: it is not there, or is no model, or S3 can't be asked.
        """
        files = find_files(self._client, self.reference.location)
        if self.options.sha256 is not None and len(files.locations) != 1:
            raise ModelLoadError(
                f"model_sha256 is of a single file, and {self.reference.location} has {len(files.locations)}; unset it"
            )
        return files, in_parallel(self._find, files.locations, self.options.concurrency)

    def transfer(self, downloads: Sequence[Download[S3Object]]) -> None:
        """Raises ModelLoadError: they can't be fetched, or came damaged."""
        options, progress = self.options, self.reference.progress
        Transfer(self._client, downloads, options.concurrency, progress, str(self.reference.location)).run()

    def part_bytes(self, one: Found) -> int:
        return self.options.part_bytes or part_bytes_of(one.item.size_bytes, one.expected, self.options.concurrency)

    def _find(self, location: S3Location) -> Found:
        item = self._client.find(location)
        expected = choose(item, lambda: self._client.size_of_part_1(item), self.options.sha256)
        if expected is None:
            stored = ", ".join(checksum.algorithm for checksum in item.checksums) or "none"
            logger.warning(
                "%s can't be checked: of its checksums in S3 (%s) none can be computed here", location, stored
            )
        return Found(item, expected)
