"""Buffered answers, by Mangum: it knows the four kinds of events and the shape of the answer to each.

Owns no state but the adapter. The app runs on the engine's event loop, in a `Cycle` of ours rather than in Mangum's,
which would run a loop of its own; and its lifespan is the process's, where Mangum's is each invocation's. Lambda drops
an answer that is too large with a bare 502; so here it becomes an error that says so.
"""

import json
from http import HTTPStatus
from typing import Any

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from mangum.types import LambdaHandler
from starlette.applications import Starlette

from pagemill.errors import PagemillError, PayloadTooLargeError
from pagemill_handlers.aws_lambda.cycle import Cycle, Deadline
from pagemill_handlers.aws_lambda.events import check_http, is_alb, name_request, root_path
from pagemill_handlers.aws_lambda.runtime_api import RawHeaders

TEXT_TYPES = [*DEFAULT_TEXT_MIME_TYPES, "application/x-ndjson"]  # all others go in base64


class BufferedAnswers:
    """Answers events with whole documents. `ensure_ascii` is how whoever sends them encodes JSON."""

    def __init__(self, app: Starlette, root_path: str, max_response_bytes: int, *, ensure_ascii: bool) -> None:
        self._app = app
        self._root_path = root_path
        self._max_response_bytes = max_response_bytes
        self._ensure_ascii = ensure_ascii
        self._mangum = Mangum(app, lifespan="off", text_mime_types=TEXT_TYPES)

    async def answer(self, event: Any, context: Any, request_id: str, deadline: Deadline) -> dict[str, Any]:
        """The answer, in the shape that the event's source wants.

        Raises:
            InvalidRequestError: the event is no HTTP request.
        """
        adapter = self._mangum.infer(check_http(event), context)
        scope = dict(adapter.scope)
        scope["root_path"] = root_path(event, self._root_path)
        name_request(scope, request_id)
        sink = _Buffer()
        cycle = Cycle(scope, adapter.body, sink, deadline)
        try:
            await cycle.run(self._app)
        except PagemillError as error:
            await cycle.answer(error)  # none of a buffered response is sent yet: it can still be another
        answer = _rendered(adapter, sink, event)
        num_bytes = len(self.encoded(answer))
        if num_bytes <= self._max_response_bytes:
            return answer
        await cycle.answer(_too_large(num_bytes, self._max_response_bytes))
        return _rendered(adapter, sink, event)

    def encoded(self, answer: dict[str, Any]) -> bytes:
        return json.dumps(answer, ensure_ascii=self._ensure_ascii).encode()


class _Buffer:
    """A response in memory. Starting again forgets what was there."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()

    async def start(self, status: int, headers: RawHeaders) -> None:
        self.status, self.headers, self.body = status, list(headers), bytearray()

    async def write(self, data: bytes) -> None:
        self.body += data


def _rendered(adapter: LambdaHandler, sink: _Buffer, event: dict[str, Any]) -> dict[str, Any]:
    headers = [[name, value] for name, value in sink.headers]
    answer = adapter({"status": sink.status, "headers": headers, "body": bytes(sink.body)})
    if is_alb(event):  # Mangum leaves it out
        answer["statusDescription"] = f"{sink.status} {HTTPStatus(sink.status).phrase}"
    return answer


def _too_large(num_bytes: int, max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"The answer has {num_bytes} bytes, more than the {max_bytes} that Lambda takes from a function that buffers; "
        "ask for less, or deploy it streamed."
    )
