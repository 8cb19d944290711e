"""S3, by boto3: what objects there are, what is known of one, and ranges of its bytes.

The only module beside `s3_errors` that imports boto3 and botocore, whose chain finds region, endpoint and credentials.
An `S3Client` may be used by several threads. Every call is tried again when the failure may pass, except `open_range`.
"""

import base64
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar

import boto3
from botocore.config import Config

from pagemill.errors import ModelLoadError, ModelNotFoundError, PagemillError
from pagemill.store.checksums import NUM_BYTES
from pagemill.store.patience import Patience
from pagemill.store.s3_errors import FAILURES, SizeError, may_pass, translated
from pagemill.store.s3_location import S3Location
from pagemill.store.source import Body, CutError

CONNECT_TIMEOUT_S = 10.0  # at most; a read may take the whole of the setting
ALGORITHMS = ("CRC64NVME", "CRC32C", "CRC32", "SHA256", "SHA1")  # those to check first
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
ETAG_IS_MD5 = re.compile(r'"(?P<md5>[0-9a-f]{32})(-(?P<num_parts>\d+))?"')
DIRECTORY_BUCKET = "--x-s3"  # the end of such a bucket's name; its ETags are no MD5


Answer = TypeVar("Answer")


class StoredChecksum(NamedTuple):
    """As S3 keeps it: base64, or of an ETag hex; of all bytes, or of the checksums of `num_parts` parts."""

    algorithm: str
    value: str  # without the number of parts
    num_parts: int | None = None


@dataclass(frozen=True, slots=True)
class S3Object:
    """One object as it was found. The checksums are in the order in which they are to be preferred."""

    location: S3Location
    size_bytes: int
    etag: str  # with its quotes
    modified_at: datetime
    checksums: tuple[StoredChecksum, ...]


class S3Client:
    """See the module. What a transfer fetches from (`Source`)."""

    failures = FAILURES

    def __init__(self, *, max_connections: int, timeout_s: float, max_retries: int, stopped: threading.Event) -> None:
        """
        Raises:
            ModelLoadError: boto3 can't make a client of its configuration.
        """
        config = Config(
            max_pool_connections=max_connections,
            connect_timeout=min(CONNECT_TIMEOUT_S, timeout_s),
            read_timeout=timeout_s,
            retries={"total_max_attempts": 1, "mode": "standard"},  # we try again, where an answer was cut
            response_checksum_validation="when_required",  # likewise: of the whole, not of ranges
            tcp_keepalive=True,
        )
        try:
            self._s3: Any = boto3.session.Session().client("s3", config=config)
        except FAILURES as error:
            raise ModelLoadError(f"can't use S3: {error}") from error
        self._max_retries = max_retries
        self._stopped = stopped

    def patience(self) -> Patience:
        return Patience(self._max_retries, self._stopped)

    def may_pass(self, error: Exception) -> bool:
        return may_pass(error)

    def translated(self, error: Exception, item: S3Object) -> PagemillError:
        return translated(error, item.location)

    def list_files(self, prefix: S3Location) -> dict[str, int]:
        """Names and sizes of what lies directly below the prefix."""
        found: dict[str, int] = {}
        token: dict[str, str] = {}
        while True:
            arguments = {"Bucket": prefix.bucket, "Prefix": prefix.key, "Delimiter": "/", **token}
            answer = self._call(prefix, partial(self._s3.list_objects_v2, **arguments))
            for item in answer.get("Contents", ()):
                name = item["Key"].removeprefix(prefix.key)
                if name:
                    found[name] = item["Size"]
            if not answer.get("IsTruncated"):
                return found
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    def find(self, location: S3Location) -> S3Object:
        """The object.

        Raises:
            ModelNotFoundError, ModelLoadError: there is none, or it may not be read.
        """
        try:
            found = self._call(location, lambda: self._head(location))
        except ModelNotFoundError:
            self._call(location, lambda: self._s3.list_objects_v2(Bucket=location.bucket, MaxKeys=1))
            raise  # unless it is the bucket that is missing, which the answer to a HEAD can't say
        if not any(checksum.algorithm in ALGORITHMS for checksum in found.checksums):
            # Python's HTTP takes an answer that was cut among its headers for a whole one, so what one lacks may be in
            # another. What a cut does to the size and the ETag, the answers with ranges show.
            again = self._call(location, lambda: self._head(location))
            found = max(found, again, key=lambda item: len(item.checksums))
        return found

    def read(self, location: S3Location) -> bytes:
        """All of a small object."""

        def request() -> bytes:
            content: bytes = self._s3.get_object(Bucket=location.bucket, Key=location.key)["Body"].read()
            return content

        return self._call(location, request)

    def size_of_part_1(self, item: S3Object) -> int:
        """Of an object that was uploaded in parts."""
        location = item.location
        request = partial(self._s3.head_object, Bucket=location.bucket, Key=location.key, PartNumber=1)
        return int(self._call(location, request)["ContentLength"])

    def open_range(self, item: S3Object, start: int, end: int) -> Body:
        """The bytes from `start` to before `end`, if the object is still the same. Raises what boto3 raises.

        Raises:
            SizeError: its size is another than was said.
            CutError: the answer's headers are not whole.
            ModelLoadError: the server does not do ranges.
        """
        location = item.location
        answer = self._s3.get_object(
            Bucket=location.bucket, Key=location.key, Range=f"bytes={start}-{end - 1}", IfMatch=item.etag
        )
        body: Body = answer["Body"]
        try:
            _check_range(answer, item, start, end)
        except Exception:
            body.close()
            raise
        return body

    def _head(self, location: S3Location) -> S3Object:
        answer = self._s3.head_object(Bucket=location.bucket, Key=location.key, ChecksumMode="ENABLED")
        etag, size_bytes, modified_at = (answer.get(name) for name in ("ETag", "ContentLength", "LastModified"))
        dated = modified_at is not None and modified_at.tzinfo is not None
        if size_bytes is None or not dated or not etag or not etag.endswith('"'):
            raise CutError("the answer's headers are cut")
        return S3Object(location, size_bytes, etag, modified_at, tuple(_stored_checksums(answer, location)))

    def _call(self, location: S3Location, request: Callable[[], Answer]) -> Answer:
        patience = self.patience()
        while True:
            try:
                return request()
            except FAILURES as error:
                if not may_pass(error) or not patience.pause():
                    raise translated(error, location) from error


def _check_range(answer: dict[str, Any], item: S3Object, start: int, end: int) -> None:
    told = CONTENT_RANGE.fullmatch(answer.get("ContentRange") or "")
    if answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
        raise ModelLoadError(f"can't fetch {item.location}: its server answers a request for a range with the whole")
    if told is None:
        raise CutError("the answer's headers are cut")
    first, last, size_bytes = map(int, told.groups())
    if size_bytes != item.size_bytes:
        raise SizeError(f"{item.location} has {size_bytes} bytes, not {item.size_bytes} as was said at first")
    if (first, last) != (start, end - 1):
        raise CutError(f"the answer has the bytes {first} to {last}, not {start} to {end - 1}")


def _stored_checksums(answer: dict[str, Any], location: S3Location) -> list[StoredChecksum]:
    found = []
    etag = ETAG_IS_MD5.fullmatch(answer["ETag"])
    in_parts = etag is not None and etag["num_parts"] is not None
    for algorithm in ALGORITHMS:
        value = answer.get(f"Checksum{algorithm}")
        if value:
            text, _, num_parts = value.partition("-")
            if len(base64.b64decode(text)) != NUM_BYTES[algorithm]:
                raise CutError("the answer's headers are cut")
            whole = not in_parts or algorithm == "CRC64NVME" or answer.get("ChecksumType") == "FULL_OBJECT"
            if num_parts.isdecimal():
                found.append(StoredChecksum(algorithm, text, int(num_parts)))
            elif whole:  # some servers forget to say that it is one of parts
                found.append(StoredChecksum(algorithm, text))
    plain = answer.get("ServerSideEncryption") in (None, "AES256") and not location.bucket.endswith(DIRECTORY_BUCKET)
    if etag is not None and plain and "SSECustomerAlgorithm" not in answer:
        found.append(StoredChecksum("MD5", etag["md5"], int(etag["num_parts"]) if in_parts else None))
    return found
