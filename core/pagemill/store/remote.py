"""A model that is not on this machine yet: what is known of it without asking anybody.

`pagemill.store.fetch` makes a `ModelReference` of it. Owns each reference's progress; may not import boto3, so that
naming a model costs nothing.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from pagemill.store.progress import Progress
from pagemill.store.s3_location import S3Location


@dataclass(frozen=True, slots=True)
class RemoteReference:
    """As `ModelReference`, with None for what only the fetched files tell."""

    name: str
    aliases: tuple[str, ...]
    location: S3Location
    progress: Progress = field(default_factory=Progress, repr=False, compare=False)
    size_bytes: None = field(default=None, init=False)
    modified_at: None = field(default=None, init=False)
    defaults: None = field(default=None, init=False)

    @property
    def format(self) -> str | None:
        """None for a prefix, which may hold either."""
        return "gguf" if self.location.is_file else None


class FetchOptions(NamedTuple):
    """The settings of a fetch."""

    download_dir: str | None  # a folder, or "memory"; None: the user's cache
    concurrency: int
    part_bytes: int | None  # None: by the object's size
    timeout_s: float  # without a byte
    max_retries: int  # without a byte between them
    sha256: str | None  # of the single file, in hex
