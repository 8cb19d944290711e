"""What an object is checked by, and that hashing gives the same in whatever order the bytes come."""

import base64
import hashlib
import os
import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagemill.store.checksums import hasher
from pagemill.store.s3_client import S3Object, StoredChecksum
from pagemill.store.s3_location import S3Location
from pagemill.store.transfer import Download, Part, part_bytes_of
from pagemill.store.verification import ChecksumError, Expected, Verification, choose

CONTENT = bytes(range(256)) * 40
PART = 1000


def an_object(*checksums: StoredChecksum) -> S3Object:
    return S3Object(S3Location("b", "k.gguf"), len(CONTENT), '"etag"', datetime.now(UTC), checksums)


def never() -> int:
    raise AssertionError("it was not uploaded in parts")


def digest(algorithm: str, data: bytes) -> bytes:
    made = hasher(algorithm)
    made.update(data)
    return made.digest()


def of_parts(algorithm: str) -> bytes:
    parts = [CONTENT[start : start + PART] for start in range(0, len(CONTENT), PART)]
    return digest(algorithm, b"".join(digest(algorithm, part) for part in parts))


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC64NVME", "SHA256", "MD5"])
@pytest.mark.parametrize("in_parts", [False, True])
@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=8), order=st.randoms())
def test_the_checksum_is_right_in_whatever_order_the_parts_come(
    algorithm: str, in_parts: bool, sizes: list[int], order: object
) -> None:
    value = of_parts(algorithm) if in_parts else digest(algorithm, CONTENT)
    expected = Expected(algorithm, value, PART if in_parts else None)
    descriptor = os.memfd_create("content")
    os.write(descriptor, CONTENT)
    download = Download(an_object(), descriptor, expected, None)
    download.divide([], sizes[0] + 100)
    verification = download.verification
    assert verification is not None
    waiting = list(download.parts)
    order.shuffle(waiting)  # type: ignore[attr-defined]  # a random.Random
    turn = 0
    while waiting:
        part = waiting[turn % len(waiting)]
        start = part.position
        part.position = min(part.end, start + sizes[turn % len(sizes)])
        verification.advance(start, part.position)
        if part.position == part.end:
            waiting.remove(part)
        turn += 1
    os.close(descriptor)
    assert verification.num_missing_bytes == 0
    verification.check()


def test_a_wrong_checksum_is_refused_with_both_values() -> None:
    descriptor = os.memfd_create("content")
    os.write(descriptor, CONTENT)
    wrong = bytes(32)
    verification = Verification(an_object(), descriptor, Expected("SHA256", wrong), PART, lambda _: len(CONTENT))
    verification.advance(0, len(CONTENT))
    os.close(descriptor)
    with pytest.raises(ChecksumError) as caught:
        verification.check()
    assert wrong.hex() in caught.value.message
    assert hashlib.sha256(CONTENT).hexdigest() in caught.value.message
    assert "s3://b/k.gguf" in caught.value.message


def test_an_empty_object_has_the_checksum_of_nothing() -> None:
    item = S3Object(S3Location("b", "k"), 0, '"etag"', datetime.now(UTC), ())
    for algorithm in ("CRC32", "MD5"):
        verification = Verification(item, -1, Expected(algorithm, digest(algorithm, b"")), PART, lambda _: 0)
        assert verification.num_missing_bytes == 0
        verification.check()


def test_the_users_own_sha256_goes_before_all_that_s3_has() -> None:
    crc = StoredChecksum("CRC32", base64.b64encode(zlib.crc32(CONTENT).to_bytes(4)).decode())
    assert choose(an_object(crc), never, "ab" * 32) == Expected("SHA256", b"\xab" * 32)
    assert choose(an_object(crc), never, None) == Expected("CRC32", zlib.crc32(CONTENT).to_bytes(4))


def test_what_cannot_be_computed_is_passed_over() -> None:
    unknown, md5 = StoredChecksum("XXHASH64", "AAAA"), StoredChecksum("MD5", "00" * 16)
    assert choose(an_object(unknown, md5), never, None) == Expected("MD5", bytes(16))
    assert choose(an_object(unknown), never, None) is None


def test_a_checksum_of_parts_is_used_if_the_parts_are_of_one_size() -> None:
    num_parts = -(-len(CONTENT) // PART)
    stored = StoredChecksum("MD5", "00" * 16, num_parts)
    assert choose(an_object(stored), lambda: PART, None) == Expected("MD5", bytes(16), PART)
    assert choose(an_object(stored), lambda: 2 * PART, None) is None
    assert choose(an_object(stored), lambda: 0, None) is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1), st.integers(0, 600))
def test_ready_is_what_came_without_a_gap(parts: list[tuple[int, int]], position: int) -> None:
    download = Download(an_object(), -1, None, None)
    start, came = 0, []
    for length, here in parts:
        download.parts.append(Part(start, start + length, start + min(here, length)))
        came += [True] * min(here, length) + [False] * (length - min(here, length))
        start += length
    download._starts = [part.start for part in download.parts]
    expected = position
    while expected < len(came) and came[expected]:
        expected += 1
    assert download.ready_until(position) == expected


def test_parts_are_one_for_each_connection_within_bounds_and_small_if_they_are_hashed_in_order() -> None:
    mib = 2**20
    assert part_bytes_of(512 * mib, None, 16) == 32 * mib
    assert part_bytes_of(mib, None, 16) == 8 * mib
    assert part_bytes_of(10**11, None, 16) == 64 * mib
    assert part_bytes_of(512 * mib, Expected("SHA256", b""), 16) == 8 * mib
    assert part_bytes_of(512 * mib, Expected("SHA256", b"", 8 * mib), 16) == 32 * mib
