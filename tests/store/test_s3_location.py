"""Locations: what they name, what clients call them, and where their copies lie."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagemill.errors import ModelNotFoundError
from pagemill.store.references import resolve
from pagemill.store.remote import RemoteReference
from pagemill.store.s3_location import S3Location


@pytest.mark.parametrize(
    ("model", "key", "name"),
    [
        ("s3://b/llama/tiny-q8_0.gguf", "llama/tiny-q8_0.gguf", "tiny-q8_0"),
        ("s3://b/llama/tiny/", "llama/tiny/", "tiny"),
        ("s3://b/llama/tiny", "llama/tiny/", "tiny"),
        ("s3://b/", "", "b"),
        ("s3://b", "", "b"),
    ],
)
def test_a_location_is_a_gguf_file_or_a_prefix(model: str, key: str, name: str) -> None:
    location = S3Location.parse(model)
    assert (location.bucket, location.key, location.name) == ("b", key, name)
    assert location.is_file == model.endswith(".gguf")


def test_a_location_without_a_bucket_is_refused() -> None:
    with pytest.raises(ModelNotFoundError, match=r"'s3:///tiny.gguf'.*names no bucket"):
        S3Location.parse("s3:///tiny.gguf")


def test_resolving_asks_nobody_and_gives_the_names_of_a_local_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    reference = resolve("s3://b/llama/tiny-q8_0.gguf")
    assert isinstance(reference, RemoteReference)
    assert reference.name == "tiny-q8_0"
    assert {"tiny-q8_0", "tiny-q8_0:latest", "s3://b/llama/tiny-q8_0.gguf"} <= set(reference.aliases)
    assert (reference.format, reference.size_bytes, reference.modified_at) == ("gguf", None, None)
    assert resolve("s3://b/llama/").format is None
    assert resolve("s3://b/llama/", ["gpt"]).aliases == ("gpt", "gpt:latest")


def test_all_files_of_a_split_gguf_are_named() -> None:
    assert S3Location.parse("s3://b/a/m-00002-of-00003.gguf").file_keys() == [
        "a/m-00001-of-00003.gguf",
        "a/m-00002-of-00003.gguf",
        "a/m-00003-of-00003.gguf",
    ]
    assert S3Location.parse("s3://b/a/m.gguf").file_keys() == ["a/m.gguf"]


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(lambda text: text + ".gguf"))
def test_no_key_leads_out_of_the_folder_of_copies(key: str) -> None:
    path = S3Location("b", key).below(Path("/cache"))
    assert path.is_relative_to("/cache/s3/b")
    assert ".." not in path.parts
    assert path != Path("/cache/s3/b")


@pytest.mark.parametrize("key", ["../../etc/m.gguf", "./m.gguf", "a/../m.gguf"])
def test_dots_in_a_key_are_names(key: str) -> None:
    path = S3Location("b", key).below(Path("/cache"))
    assert path.is_relative_to("/cache/s3/b")
    assert not {".", ".."} & set(path.parts)
