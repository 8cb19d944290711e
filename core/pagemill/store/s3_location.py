"""Where in S3 a model lies: `s3://bucket/key.gguf`, or `s3://bucket/prefix/`. Owns no state; knows no network."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pagemill.errors import ModelNotFoundError
from pagemill.store.references import S3_SCHEME
from pagemill.store.split_gguf import all_names

GGUF_SUFFIX = ".gguf"


@dataclass(frozen=True, slots=True)
class S3Location:
    """`key` is that of a GGUF file, or a prefix: empty, or with a "/" at its end."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, model: str) -> "S3Location":
        """
        Raises:
            ModelNotFoundError: it names no bucket.
        """
        bucket, _, key = model.removeprefix(S3_SCHEME).partition("/")
        if not bucket:
            form = f"{S3_SCHEME}bucket/key.gguf or {S3_SCHEME}bucket/prefix/"
            raise ModelNotFoundError(f"model {model!r} not found: it names no bucket; write {form}", param="model")
        if key and not key.endswith((GGUF_SUFFIX, "/")):
            key += "/"
        return cls(bucket, key)

    @property
    def is_file(self) -> bool:
        return self.key.endswith(GGUF_SUFFIX)

    @property
    def file_name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def name(self) -> str:
        """What clients call the model, unless it is given another name."""
        return self.key.rstrip("/").rpartition("/")[2].removesuffix(GGUF_SUFFIX) or self.bucket

    def file_keys(self) -> list[str]:
        """The key, and of a GGUF that is split into several files the keys of all of them, the first one first."""
        return all_names(self.key)

    def below(self, folder: Path) -> Path:
        """Where a copy of the object lies in a folder of copies. No key leads out of it."""
        parts = [part for part in self.key.split("/") if part]
        return folder.joinpath("s3", self.bucket, *map(_file_name, parts))

    def __str__(self) -> str:
        return f"{S3_SCHEME}{self.bucket}/{self.key}"


def _file_name(part: str) -> str:
    return part.replace(".", "%2E") if part in (".", "..") else quote(part, safe=" !#$&'()+,;=@[]{}~")
