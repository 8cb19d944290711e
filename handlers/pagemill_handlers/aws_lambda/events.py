"""The events of HTTP: which of them are, which can be answered in a stream, and those as ASGI requests.

Owns no state. A function URL and an HTTP API send payload 2.0; a REST API sends payload 1.0, a load balancer one much
like it. Streaming is known to function URLs and REST APIs; the other two go by Mangum, which knows all four
(`buffered.py`). Sources: "Working with AWS Lambda proxy integrations for HTTP APIs", "Lambda proxy integrations in API
Gateway", "Invoking Lambda function URLs".
"""

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlencode

from starlette.types import Scope

from pagemill.errors import InvalidRequestError

Event = Mapping[str, Any]
DEFAULT_STAGE = "$default"


def check_http(event: Any) -> dict[str, Any]:
    """The event, if it is a request of one of the four kinds.

    Raises:
        InvalidRequestError: it is none, as a console's test event or a schedule's.
    """
    context = event.get("requestContext") if isinstance(event, dict) else None
    if isinstance(context, dict) and ("httpMethod" in event or "http" in context):
        return dict(event)
    shown = sorted(event) if isinstance(event, dict) else type(event).__name__
    raise InvalidRequestError(
        "this function takes HTTP events (function URL, HTTP API, REST API, load balancer); "
        f"got one without requestContext and method: {shown}"
    )


def is_alb(event: Event) -> bool:
    return "elb" in event["requestContext"]


def can_stream(event: Event) -> bool:
    """Function URLs are told from HTTP APIs by their domain, REST APIs by their lack of a version."""
    if "version" in event:
        return event["version"] == "2.0" and ".lambda-url." in event["requestContext"].get("domainName", "")
    return not is_alb(event)


def root_path(event: Event, configured: str) -> str:
    """The part of the path that is not the app's: an HTTP API's stage, else the `root_path` setting.

    The stage is in the path only under the API's own domain, and a REST API leaves it out by itself.
    """
    context = event["requestContext"]
    stage = context.get("stage", DEFAULT_STAGE)
    own_domain = "version" in event and context.get("domainPrefix") == context.get("apiId")
    if own_domain and stage != DEFAULT_STAGE:
        prefix, path = f"/{stage}", event.get("rawPath") or event.get("path") or "/"
        if path == prefix or path.startswith(prefix + "/"):
            return prefix
    return configured


def scope_of(event: Event, configured_root_path: str) -> Scope:
    """The ASGI scope of an event that can be streamed."""
    context = event["requestContext"]
    if "version" in event:
        method, client = context["http"]["method"], context["http"].get("sourceIp")
        path, query, headers = event["rawPath"], event.get("rawQueryString", ""), _headers_v2(event)
    else:
        method, client = event["httpMethod"], context.get("identity", {}).get("sourceIp")
        path, query, headers = event["path"], _query_v1(event), _headers_v1(event)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": unquote(path) or "/",
        "raw_path": path.encode(),
        "root_path": root_path(event, configured_root_path),
        "query_string": query.encode(),
        "headers": headers,
        "client": (client, 0) if client else None,
        "server": (context.get("domainName") or "lambda", 443),
    }


def body_of(event: Event) -> bytes:
    body = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()


def name_request(scope: Scope, request_id: str) -> None:
    """Give the request Lambda's id as its own, unless the client gave one: so the two logs can be read together."""
    if all(name != b"x-request-id" for name, _value in scope["headers"]):
        scope["headers"] = [*scope["headers"], (b"x-request-id", request_id.encode("latin-1"))]


def _headers_v2(event: Event) -> list[tuple[bytes, bytes]]:
    headers = [_header(name, value) for name, value in (event.get("headers") or {}).items()]
    if event.get("cookies"):
        headers.append(_header("cookie", "; ".join(event["cookies"])))
    return headers


def _headers_v1(event: Event) -> list[tuple[bytes, bytes]]:
    several = event.get("multiValueHeaders")
    if several:
        return [_header(name, value) for name, values in several.items() for value in values]
    return [_header(name, value) for name, value in (event.get("headers") or {}).items()]


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    return name.lower().encode("latin-1"), value.encode("latin-1", errors="replace")


def _query_v1(event: Event) -> str:
    """The parameters come decoded."""
    parameters = event.get("multiValueQueryStringParameters") or event.get("queryStringParameters") or {}
    return urlencode(parameters, doseq=True)
