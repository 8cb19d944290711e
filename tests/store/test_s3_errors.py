"""What boto3 raises becomes an error that names the object and the reason."""

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    InvalidRegionError,
    NoCredentialsError,
    SSLError,
)

from pagemill.errors import ModelLoadError, ModelNotFoundError, PagemillError
from pagemill.store.s3_errors import ObjectChangedError, UnreachableError, may_pass, translated
from pagemill.store.s3_location import S3Location

PLACE = S3Location("models", "tiny.gguf")


def answer(code: str, status: int, message: str = "") -> ClientError:
    error = {"Code": code, "Message": message}
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


@pytest.mark.parametrize(
    ("error", "kind", "words", "passes"),
    [
        (answer("NoSuchBucket", 404), ModelNotFoundError, "no bucket models", False),
        (answer("404", 404, "Not Found"), ModelNotFoundError, "no such object", False),
        (
            answer("403", 403, "Forbidden"),
            ModelLoadError,
            "access denied (Forbidden); the role needs s3:GetObject",
            False,
        ),
        (answer("PreconditionFailed", 412), ObjectChangedError, "was changed while it was fetched", False),
        (answer("PermanentRedirect", 301, "use eu-west-1"), ModelLoadError, "use eu-west-1); set AWS_REGION", False),
        (answer("SlowDown", 503, "reduce"), UnreachableError, "SlowDown, reduce (HTTP 503)", True),
        (answer("InternalError", 500), UnreachableError, "InternalError", True),
        (answer("InvalidObjectState", 400, "archived"), ModelLoadError, "archived (HTTP 400)", False),
        (NoCredentialsError(), ModelLoadError, "set AWS_ACCESS_KEY_ID", False),
        (InvalidRegionError(region_name="x y"), ModelLoadError, "set AWS_REGION", False),
        (EndpointConnectionError(endpoint_url="http://s3"), UnreachableError, "http://s3", True),
        (ConnectTimeoutError(endpoint_url="http://s3"), UnreachableError, "timeout", True),
        (SSLError(endpoint_url="https://s3", error="bad certificate"), ModelLoadError, "bad certificate", False),
        (ConnectionResetError("reset by peer"), UnreachableError, "reset by peer", True),
    ],
)
def test_an_error_names_the_object_and_the_reason(
    error: Exception, kind: type[PagemillError], words: str, passes: bool
) -> None:
    found = translated(error, PLACE)
    assert type(found) is kind
    assert str(PLACE) in found.message
    assert words in found.message
    assert may_pass(error) is passes
