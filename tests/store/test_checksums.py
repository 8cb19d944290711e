"""Checksums: known values, and CRCs of parts that make the CRC of the whole."""

import builtins
import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagemill.store import checksums
from pagemill.store.checksums import CRCS, can_compute, combine, hasher


def digest(algorithm: str, data: bytes) -> bytes:
    made = hasher(algorithm)
    for start in range(0, len(data), 7):
        made.update(data[start : start + 7])
    return made.digest()


@pytest.mark.parametrize(
    ("algorithm", "value"), [("CRC32", "cbf43926"), ("CRC32C", "e3069283"), ("CRC64NVME", "ae8b14860a799888")]
)
def test_a_crc_has_the_check_value_of_its_catalogue_entry(algorithm: str, value: str) -> None:
    assert digest(algorithm, b"123456789").hex() == value


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA1", "MD5"])
def test_hashes_are_those_of_hashlib(algorithm: str) -> None:
    assert digest(algorithm, b"some weights") == hashlib.new(algorithm.lower(), b"some weights").digest()


@settings(deadline=None)
@given(st.sampled_from(sorted(CRCS)), st.binary(max_size=300), st.binary(max_size=300))
def test_the_crc_of_two_runs_is_combined_from_those_of_each(algorithm: str, first: bytes, second: bytes) -> None:
    combined = combine(algorithm, digest(algorithm, first), digest(algorithm, second), len(second))
    assert combined == digest(algorithm, first + second)


def test_without_awscrt_only_pythons_own_can_be_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_awscrt(name: str, *arguments: Any) -> Any:
        if name.startswith("awscrt"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_awscrt)
    checksums._crc_function.cache_clear()
    assert [name for name in ("CRC32", "CRC32C", "CRC64NVME", "SHA256", "MD5") if can_compute(name)] == [
        "CRC32",
        "SHA256",
        "MD5",
    ]
    checksums._crc_function.cache_clear()


def test_an_algorithm_that_is_not_known_cannot_be_computed() -> None:
    assert not can_compute("XXHASH128")
