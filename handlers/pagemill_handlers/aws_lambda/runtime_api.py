"""Lambda's Runtime API: take an invocation, answer it whole or in a stream, or report that it failed.

A `RuntimeApi` owns one connection and serves one invocation at a time; pollers have one each. Source: "Using the Lambda
runtime API for custom runtimes" and "Response streaming" in the Lambda developer guide.
"""

import base64
import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pagemill_handlers.aws_lambda.connection import Connection, Reply

logger = logging.getLogger(__name__)

RUNTIME = "/2018-06-01/runtime"
ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
ERROR_BODY = "Lambda-Runtime-Function-Error-Body"
INVOCATION_ID = "Lambda-Runtime-Invocation-Id"
PRELUDE_TYPE = "application/vnd.awslambda.http-integration-response"
PRELUDE_END = bytes(8)
# Of the connection to whoever called the app, which here is Lambda's business; and the length, which a stream that
# ends on an error would belie.
CONNECTION_HEADERS = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})
RawHeaders = Iterable[tuple[bytes, bytes]]


class RuntimeApiError(Exception):
    """The Runtime API refused to go on; the process must end."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One event, and what Lambda says about it."""

    request_id: str
    event: Any  # JSON: whatever the function was invoked with
    deadline: float  # Unix time, in seconds, at which the sandbox is killed
    id: str | None  # the Runtime API's own, on Managed Instances: echoed, so that an answer can't cross to another

    @property
    def path(self) -> str:
        return f"{RUNTIME}/invocation/{self.request_id}"

    def remaining_s(self) -> float:
        return self.deadline - time.time()

    def echo(self) -> dict[str, str]:
        return {} if self.id is None else {INVOCATION_ID: self.id}


class RuntimeApi:
    """See the module. OSErrors pass: without its Runtime API a process can only end."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._connection = Connection(host, int(port))

    async def next(self) -> Invocation:
        """Wait for an invocation, however long it takes."""
        reply = await self._connection.request("GET", f"{RUNTIME}/invocation/next", {})
        if reply.status != 200:
            raise RuntimeApiError(f"no next invocation: status {reply.status}, {reply.body[:200]!r}")
        headers = reply.headers
        return Invocation(
            request_id=headers["lambda-runtime-aws-request-id"],
            event=json.loads(reply.body),
            deadline=int(headers["lambda-runtime-deadline-ms"]) / 1000,
            id=headers.get(INVOCATION_ID.lower()),
        )

    async def respond(self, invocation: Invocation, payload: bytes) -> None:
        """Answer with a whole JSON document."""
        headers = {"Content-Type": "application/json", **invocation.echo()}
        reply = await self._connection.request("POST", f"{invocation.path}/response", headers, payload)
        check(reply, f"the answer to {invocation.request_id}")

    async def fail(self, invocation: Invocation, error_type: str, message: str) -> None:
        """The invocation failed before any of its answer was sent."""
        await self._report(f"{invocation.path}/error", error_type, message, invocation.echo())

    async def fail_init(self, error_type: str, message: str) -> None:
        """This process can't serve; it is about to end."""
        await self._report(f"{RUNTIME}/init/error", error_type, message, {})

    async def begin_stream(self, invocation: Invocation, status: int, headers: RawHeaders) -> "ResponseStream":
        """Begin to answer in a stream: the status and headers are sent now."""
        await self._connection.begin(
            "POST",
            f"{invocation.path}/response",
            {
                "Content-Type": PRELUDE_TYPE,
                "Lambda-Runtime-Function-Response-Mode": "streaming",
                "Trailer": f"{ERROR_TYPE}, {ERROR_BODY}",
                **invocation.echo(),
            },
        )
        await self._connection.send_chunk(prelude(status, headers) + PRELUDE_END)
        return ResponseStream(self._connection, invocation)

    async def close(self) -> None:
        await self._connection.close()

    async def _report(self, path: str, error_type: str, message: str, headers: Mapping[str, str]) -> None:
        body = json.dumps({"errorType": error_type, "errorMessage": message, "stackTrace": []}).encode()
        headers = {"Content-Type": "application/json", ERROR_TYPE: error_type, **headers}
        check(await self._connection.request("POST", path, headers, body), f"the error {error_type}")


class ResponseStream:
    """An answer that has begun. `end` or `fail` must be called, once. Chunks fail with an OSError if Lambda is gone."""

    def __init__(self, connection: Connection, invocation: Invocation) -> None:
        self._connection = connection
        self._invocation = invocation

    async def write(self, data: bytes) -> None:
        await self._connection.send_chunk(data)

    async def end(self) -> None:
        await self._finish({})

    async def fail(self, error_type: str, message: str) -> None:
        """The answer stays cut off here; Lambda learns why by trailers."""
        body = json.dumps({"errorType": error_type, "errorMessage": message}).encode()
        await self._finish({ERROR_TYPE: error_type, ERROR_BODY: base64.b64encode(body).decode("ascii")})

    async def _finish(self, trailers: Mapping[str, str]) -> None:
        try:
            check(await self._connection.finish(trailers), f"the stream of {self._invocation.request_id}")
        except OSError as error:  # only this invocation's end is lost: the next `next` shows if it is more
            logger.warning("the stream of %s broke off: %s", self._invocation.request_id, error)


def prelude(status: int, headers: RawHeaders) -> bytes:
    """Status and headers as the JSON that goes before a streamed body. Repeated headers are joined, cookies listed."""
    fields: dict[str, str] = {}
    cookies: list[str] = []
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "set-cookie":
            cookies.append(value)
        elif name not in CONNECTION_HEADERS:
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return json.dumps({"statusCode": status, "headers": fields, "cookies": cookies}).encode("ascii")


def check(reply: Reply, what: str) -> None:
    """Log what Lambda did not take: the invocation is lost, the process is not, unless Lambda says so by a 5xx."""
    if reply.status >= 500:
        raise RuntimeApiError(f"the Runtime API failed on {what}: status {reply.status}, {reply.body[:200]!r}")
    if reply.status >= 300:
        logger.error("the Runtime API refused %s: status %d, %r", what, reply.status, reply.body[:200])
