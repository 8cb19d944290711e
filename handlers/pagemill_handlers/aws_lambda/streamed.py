"""Streamed answers: each chunk that the app sends goes to the client at once.

Owns no state beyond one answer. What goes wrong before the response starts is an ordinary answer with its status; after
that the dialect says it in its own last item, and what even the dialect can't say cuts the stream off, with trailers.
"""

import logging

from starlette.types import ASGIApp

from pagemill_handlers.aws_lambda.cycle import Cycle, Deadline
from pagemill_handlers.aws_lambda.events import body_of, name_request, scope_of
from pagemill_handlers.aws_lambda.runtime_api import Invocation, RawHeaders, ResponseStream, RuntimeApi

logger = logging.getLogger(__name__)


async def stream_answer(app: ASGIApp, api: RuntimeApi, invocation: Invocation, root_path: str, margin_s: float) -> None:
    """Answer the invocation, whose event must be one that can stream.

    Raises:
        Exception: whatever the app let out before its response started.
    """
    scope = scope_of(invocation.event, root_path)
    name_request(scope, invocation.request_id)
    sink = _Stream(api, invocation)
    cycle = Cycle(scope, body_of(invocation.event), sink, Deadline.after(invocation.remaining_s(), margin_s))
    try:
        await cycle.run(app)
    except Exception as error:
        if sink.stream is None:
            raise
        logger.error("request %s was cut off", invocation.request_id, exc_info=error)
        await sink.stream.fail(type(error).__name__, str(error))
    else:
        assert sink.stream is not None, "a response without its start"
        await sink.stream.end()


class _Stream:
    """A response on its way to Lambda."""

    def __init__(self, api: RuntimeApi, invocation: Invocation) -> None:
        self.stream: ResponseStream | None = None  # once the response has started
        self._api = api
        self._invocation = invocation

    async def start(self, status: int, headers: RawHeaders) -> None:
        self.stream = await self._api.begin_stream(self._invocation, status, headers)

    async def write(self, data: bytes) -> None:
        assert self.stream is not None, "a body before its start"
        await self.stream.write(data)
