"""What boto3 raises, in Pagemill's words; and which of it may pass if one tries again. Owns no state."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  # botocore's root of what goes wrong on the way
    HTTPClientError,
    IncompleteReadError,
    InvalidRegionError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
    SSLError,
    ValidationError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from pagemill.errors import FetchError, ModelLoadError, ModelNotFoundError, PagemillError
from pagemill.store.s3_location import S3Location

# All that a call can raise. A ValueError is of a header that makes no sense, such as half a date: the answer was cut.
FAILURES = (BotoCoreError, ClientError, HTTPError, ResponseParserError, OSError, ValueError)
BUSY_CODES = frozenset({"SlowDown", "InternalError", "RequestTimeout", "ServiceUnavailable", "Throttling"})
BUSY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
ON_THE_WAY = (
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
    ResponseParserError,
    HTTPError,
    OSError,
    ValueError,
)
CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of this machine"


class UnreachableError(FetchError):
    """S3 did not answer, or not in whole, however often it was asked."""


class ObjectChangedError(ModelLoadError):
    """The object is not the one any more that was found at first."""


class SizeError(ModelLoadError):
    """The object has another size than was said at first."""


def may_pass(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, ClientError):
        return _status(error) in BUSY_STATUSES or _code(error) in BUSY_CODES
    return isinstance(error, ON_THE_WAY) and not isinstance(error, (SSLError, ValidationError))


def translated(error: Exception, location: S3Location) -> PagemillError:
    """Names the object, the reason, and what to do about it."""
    if isinstance(error, ClientError):
        return _of_an_answer(error, location)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return ModelLoadError(f"can't fetch {location}: {_first_line(error)}; {CREDENTIALS}")
    if isinstance(error, InvalidRegionError):
        return ModelLoadError(f"can't fetch {location}: {_first_line(error)}; set AWS_REGION")
    if may_pass(error):
        return UnreachableError(f"can't fetch {location}: {_first_line(error)}")
    return ModelLoadError(f"can't fetch {location}: {_first_line(error)}")


def _of_an_answer(error: ClientError, location: S3Location) -> PagemillError:
    code, status = _code(error), _status(error)
    words = error.response.get("Error", {}).get("Message") or code
    if code == "NoSuchBucket":
        return ModelNotFoundError(f"model {location} not found: there is no bucket {location.bucket}", param="model")
    if code in ("NoSuchKey", "NotFound") or status == 404:
        return ModelNotFoundError(f"model {location} not found: the bucket has no such object", param="model")
    if status == 412:
        return ObjectChangedError(f"{location} was changed while it was fetched; start again to have it as it is now")
    if code in ("AccessDenied", "Forbidden") or status == 403:
        needed = "the role needs s3:GetObject on it, and s3:ListBucket on the bucket"
        return ModelLoadError(f"can't fetch {location}: access denied ({words}); {needed}")
    if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"):
        return ModelLoadError(f"can't fetch {location}: the bucket is in another region ({words}); set AWS_REGION")
    kind = UnreachableError if may_pass(error) else ModelLoadError
    return kind(f"can't fetch {location}: {code}, {words} (HTTP {status})")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return lines[0] or type(error).__name__
