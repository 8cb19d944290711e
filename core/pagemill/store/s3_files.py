"""Which objects a model in S3 is made of. Owns no state; asks through an `S3Client`, and reads an index by it."""

import fnmatch
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from pagemill.errors import ModelLoadError, ModelNotFoundError
from pagemill.store.references import CONFIG, CONFIG_FILES, WEIGHTS
from pagemill.store.s3_location import GGUF_SUFFIX, S3Location
from pagemill.store.split_gguf import all_names

if TYPE_CHECKING:
    from pagemill.store.s3_client import S3Client

MOST_NAMED = 10  # files in an error message


class ModelFiles(NamedTuple):
    """The objects, the main one first. Of a folder they are its files, else those of one GGUF."""

    locations: list[S3Location]
    is_folder: bool


def find_files(client: "S3Client", location: S3Location) -> ModelFiles:
    """
    Raises:
        ModelNotFoundError: nothing lies there.
        ModelLoadError: what lies there is no model, or several; says what it is. Or S3 can't be asked.
    """
    if location.is_file:
        return _gguf(location)
    listed = client.list_files(location)
    if not listed:
        what = "no file lies directly below that prefix, and it does not name a .gguf file"
        raise ModelNotFoundError(f"model {location} not found: {what}", param="model")
    if CONFIG in listed:
        names = [CONFIG, *sorted(_others(listed)), *_weights(client, location, listed)]
        return ModelFiles([_below(location, name) for name in names], is_folder=True)
    first_files = sorted(name for name in listed if name.endswith(GGUF_SUFFIX) and name == all_names(name)[0])
    if len(first_files) != 1:
        what = f"{len(first_files)} GGUF files, name one of them" if first_files else f"neither {CONFIG} nor GGUF"
        raise ModelLoadError(f"{location} is no model: there is {what}; there are {_named(listed)}")
    return _gguf(_below(location, first_files[0]))


def _gguf(location: S3Location) -> ModelFiles:
    return ModelFiles([S3Location(location.bucket, key) for key in location.file_keys()], is_folder=False)


def _below(prefix: S3Location, name: str) -> S3Location:
    return S3Location(prefix.bucket, prefix.key + name)


def _others(listed: Mapping[str, int]) -> list[str]:
    """What decides, beside the weights, how the model answers; config.json itself left out."""
    found = {name for pattern in CONFIG_FILES for name in fnmatch.filter(listed, pattern)}
    return [name for name in found if name != CONFIG]


def _weights(client: "S3Client", prefix: S3Location, listed: Mapping[str, int]) -> list[str]:
    """Those that are loaded, as from a folder. What is missing is for the backend to complain of."""
    for name in WEIGHTS:
        if name in listed:
            return [name]
        index = f"{name}.index.json"
        if index in listed:
            content = client.read(_below(prefix, index))
            return sorted(name for name in _shard_names(content) if name in listed)
    return []


def _shard_names(index: bytes) -> set[str]:
    try:
        return {str(name) for name in json.loads(index)["weight_map"].values()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return set()


def _named(listed: Mapping[str, int]) -> str:
    names = sorted(listed)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
