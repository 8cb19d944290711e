"""Whether the bytes that came are those that were stored: hashing, while the rest of them still comes.

A `Verification` is of one object. One thread advances it; the parts it reads belong to the transfer's workers, who only
ever move them forward. May not import boto3.
"""

import base64
import os
from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pagemill.errors import FetchError
from pagemill.store.checksums import CRCS, Hasher, can_compute, combine, hasher

if TYPE_CHECKING:
    from pagemill.store.s3_client import S3Object
    from pagemill.store.source import Item

READ_BYTES = 2**20


class ChecksumError(FetchError):
    """What came is not what was stored. `item` is the object."""

    def __init__(self, message: str, item: "Item") -> None:
        super().__init__(message)
        self.item = item


class Expected(NamedTuple):
    """A checksum in raw bytes: of the whole object, or of the checksums of its parts of `part_bytes`."""

    algorithm: str
    value: bytes
    part_bytes: int | None = None

    @property
    def in_order(self) -> bool:
        """Whether the bytes must be hashed from the first to the last."""
        return self.part_bytes is None and self.algorithm not in CRCS


def choose(item: "S3Object", size_of_part_1: Callable[[], int], sha256: str | None) -> Expected | None:
    """What to check an object by: the SHA-256 that the user gave, else the first that S3 has and can be computed here.

    None if there is nothing. `size_of_part_1` asks S3, of an object that was uploaded in parts.
    """
    if sha256 is not None:
        return Expected("SHA256", bytes.fromhex(sha256))
    for stored in item.checksums:
        if not can_compute(stored.algorithm):
            continue
        value = bytes.fromhex(stored.value) if stored.algorithm == "MD5" else base64.b64decode(stored.value)
        if stored.num_parts is None:
            return Expected(stored.algorithm, value)
        part_bytes = size_of_part_1()
        if part_bytes > 0 and -(-item.size_bytes // part_bytes) == stored.num_parts:
            return Expected(stored.algorithm, value, part_bytes)
    return None


class _Piece:
    """A run of bytes with a hash of its own."""

    __slots__ = ("end", "hasher", "position", "start")

    def __init__(self, start: int, end: int, algorithm: str) -> None:
        self.start = self.position = start
        self.end = end
        self.hasher: Hasher = hasher(algorithm)


class Verification:
    """`ready_until(position)` tells how far from there on the file's bytes are those that came.

    A CRC of all bytes is made of those of runs of `part_bytes`, so that it needs no order.
    """

    def __init__(
        self,
        item: "Item",
        descriptor: int,
        expected: Expected,
        part_bytes: int,
        ready_until: Callable[[int], int],
    ) -> None:
        self._item = item
        self._descriptor = descriptor
        self._expected = expected
        self._ready_until = ready_until
        size_bytes = max(item.size_bytes, 1)
        piece_bytes = expected.part_bytes or (size_bytes if expected.in_order else part_bytes)
        self._starts = range(0, size_bytes, piece_bytes)
        self._pieces = [
            _Piece(start, min(start + piece_bytes, item.size_bytes), expected.algorithm) for start in self._starts
        ]
        self.num_missing_bytes = item.size_bytes  # that are not hashed yet

    def advance(self, start: int, end: int) -> None:
        """Bytes came from `start` to before `end`: hash what can be hashed now."""
        index = bisect_right(self._starts, start) - 1
        while index < len(self._pieces) and self._pieces[index].start < end:
            piece = self._pieces[index]
            while (ready := min(self._ready_until(piece.position), piece.end)) > piece.position:
                self._hash(piece, ready)
            index += 1

    def value(self) -> bytes:
        """What was computed; to be compared with `expected.value`."""
        digests = [piece.hasher.digest() for piece in self._pieces]
        algorithm = self._expected.algorithm
        if self._expected.part_bytes is not None:
            whole = hasher(algorithm)
            whole.update(b"".join(digests))
            return whole.digest()
        result = digests[0]
        for piece, digest in zip(self._pieces[1:], digests[1:], strict=True):
            result = combine(algorithm, result, digest, piece.end - piece.start)
        return result

    def check(self) -> None:
        """
        Raises:
            ChecksumError: the checksums differ; names both.
        """
        value = self.value()
        if value != self._expected.value:
            of_parts = " of its parts" if self._expected.part_bytes is not None else ""
            raise ChecksumError(
                f"{self._item.location} came damaged, or is another file than was asked for: its "
                f"{self._expected.algorithm}{of_parts} is {value.hex()}, expected {self._expected.value.hex()}; "
                "what was fetched is deleted",
                self._item,
            )

    def _hash(self, piece: _Piece, ready: int) -> None:
        length = min(ready - piece.position, READ_BYTES)
        data = os.pread(self._descriptor, length, piece.position)
        if not data:
            raise OSError("the file became shorter while it was checked")
        piece.hasher.update(data)
        piece.position += len(data)
        self.num_missing_bytes -= len(data)
