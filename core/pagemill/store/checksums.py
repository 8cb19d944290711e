"""The checksums that S3 keeps, computed: SHA-256, SHA-1, MD5 and three CRCs. Owns no state.

CRC32 is Python's own; CRC32C and CRC64NVME come from AWS's C library (awscrt), where it is installed.
"""

import hashlib
import zlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, Protocol

ORDERED = ("SHA256", "SHA1", "MD5")  # must see the bytes in their order; CRCs of pieces can be combined


class Hasher(Protocol):
    """As hashlib's objects."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class CRC(NamedTuple):
    """One kind of CRC. All that S3 has reflect their bits, and begin and end with all of them inverted."""

    num_bits: int
    polynomial: int  # reflected


CRCS = {
    "CRC32": CRC(32, 0xEDB88320),
    "CRC32C": CRC(32, 0x82F63B78),
    "CRC64NVME": CRC(64, 0x9A6C9329AC4BC9B5),
}
NUM_BYTES = {"SHA256": 32, "SHA1": 20, "CRC32": 4, "CRC32C": 4, "CRC64NVME": 8}
CRCFunction = Callable[[bytes, int], int]  # (data, CRC of what was before it) -> CRC of both


def can_compute(algorithm: str) -> bool:
    return algorithm in ORDERED or _crc_function(algorithm) is not None


def hasher(algorithm: str) -> Hasher:
    """A new one, for an algorithm that can be computed."""
    if algorithm in ORDERED:
        return hashlib.new(algorithm.lower(), usedforsecurity=False)
    function = _crc_function(algorithm)
    assert function is not None
    return _CRCHasher(function, CRCS[algorithm].num_bits // 8)


def combine(algorithm: str, first: bytes, second: bytes, num_second_bytes: int) -> bytes:
    """The CRC of two runs of bytes, one after the other, from the CRCs of each.

    To append n bytes is to multiply by x^8n modulo the CRC's polynomial, as zlib's crc32_combine does.
    """
    crc = CRCS[algorithm]
    shifted = _multiply(crc, _power_of_x(crc, 8 * num_second_bytes), int.from_bytes(first))
    return (shifted ^ int.from_bytes(second)).to_bytes(crc.num_bits // 8)


class _CRCHasher:
    def __init__(self, function: CRCFunction, num_bytes: int) -> None:
        self._function = function
        self._num_bytes = num_bytes
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._num_bytes)


@cache
def _crc_function(algorithm: str) -> CRCFunction | None:
    if algorithm == "CRC32":
        return zlib.crc32
    try:
        from awscrt import checksums
    except ImportError:
        return None
    function: CRCFunction | None = getattr(checksums, algorithm.lower(), None) if algorithm in CRCS else None
    return function


def _multiply(crc: CRC, a: int, b: int) -> int:
    """The product of two polynomials over GF(2), modulo that of the CRC. The highest bit is the coefficient of x^0."""
    product = 0
    for bit in range(crc.num_bits - 1, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (crc.polynomial if b & 1 else 0)
    return product


def _power_of_x(crc: CRC, exponent: int) -> int:
    result, square = 1 << crc.num_bits - 1, 1 << crc.num_bits - 2
    while exponent:
        if exponent & 1:
            result = _multiply(crc, result, square)
        square = _multiply(crc, square, square)
        exponent >>= 1
    return result
