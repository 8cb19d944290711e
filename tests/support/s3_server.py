"""An S3 in this process: moto's server on loopback, and what tests do to its objects behind its back."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import boto3
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

REGION = "us-east-1"
NAMES = count()


def environment(endpoint: str) -> dict[str, Any]:
    """The variables by which boto3 finds the server and nothing else."""
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }


@dataclass
class Bucket:
    """A bucket of its own for each test."""

    host: str
    port: int
    name: str = field(default_factory=lambda: f"models-{next(NAMES)}")

    def __post_init__(self) -> None:
        self.client: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )
        self.client.create_bucket(Bucket=self.name)

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.port}"

    def put(self, key: str, content: bytes, **arguments: Any) -> str:
        """The location."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content, **arguments)
        return f"s3://{self.name}/{key}"

    def put_in_parts(self, key: str, parts: list[bytes], **arguments: Any) -> str:
        place = {"Bucket": self.name, "Key": key}
        upload = self.client.create_multipart_upload(**place, **arguments)["UploadId"]
        sent = []
        for number, part in enumerate(parts, 1):
            answer = self.client.upload_part(**place, UploadId=upload, PartNumber=number, Body=part)
            sent.append({"PartNumber": number, "ETag": answer["ETag"]})
        self.client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": sent})
        return f"s3://{self.name}/{key}"

    def stored(self, key: str) -> Any:
        """The server's own record of the object."""
        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[self.name].keys[key]

    def damage(self, key: str) -> None:
        """Flip a bit of the stored bytes; checksums and ETag stay as they are."""
        record = self.stored(key)
        content = bytearray(record.value)
        content[len(content) // 2] ^= 1
        record.value = bytes(content)


@contextmanager
def s3_server() -> Iterator[tuple[str, int]]:
    """Its host and port."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()
    finally:
        server.stop()


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Have this process, and what it starts, find S3 there."""
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
