"""How much one client may ask: requests a minute, and requests at once.

`RequestLimits` owns the counts, on the event loop. A client is an API key; on a server without keys, an address. Both
limits are of this process alone.
"""

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pagemill.api.context import exchange, route_path
from pagemill.api.middleware import POLLED_PATHS, is_page
from pagemill.errors import RateLimitError

MAX_CLIENTS = 10_000  # that are remembered; beyond, those that have nothing running and asked longest ago are forgotten
REASONS = ("rate", "concurrency")


@dataclass(slots=True)
class Client:
    """What one client has left (`tokens`, of a bucket that fills all the time) and has running."""

    tokens: float
    filled_at: float
    num_running: int = 0


class Allowance(NamedTuple):
    """What is left after a request was let in, as OpenAI's headers tell it."""

    limit: int
    remaining: int
    full_in_s: float

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"x-ratelimit-limit-requests", b"%d" % self.limit),
            (b"x-ratelimit-remaining-requests", b"%d" % self.remaining),
            (b"x-ratelimit-reset-requests", b"%.3gs" % self.full_in_s),
        ]


class RequestLimits:
    """0 is no limit. A minute's requests may come in one burst."""

    def __init__(
        self,
        max_requests_per_minute: int,
        max_concurrent_requests: int,
        *,
        retry_after_s: int = 1,
        clock: Callable[[], float] = time.monotonic,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        self.num_refused: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self._per_minute = max_requests_per_minute
        self._concurrent = max_concurrent_requests
        self._retry_after_s = retry_after_s
        self._clock = clock
        self._max_clients = max_clients
        self._clients: OrderedDict[str, Client] = OrderedDict()  # who asked longest ago first

    def enter(self, name: str) -> Allowance | None:
        """Let a request of that client in; `leave` must follow. None if there is no limit on its rate.

        Raises:
            RateLimitError: not now; says when.
        """
        client = self._client(name)
        if self._concurrent and client.num_running >= self._concurrent:
            self.num_refused["concurrency"] += 1
            message = (
                f"{client.num_running} requests of yours are running, which is the limit (max_concurrent_requests)."
            )
            raise RateLimitError(message, retry_after_s=self._retry_after_s)
        allowance = self._take(client) if self._per_minute else None
        client.num_running += 1
        return allowance

    def leave(self, name: str) -> None:
        """A request that was let in has ended."""
        self._clients[name].num_running -= 1

    def _client(self, name: str) -> Client:
        client = self._clients.get(name)
        if client is None:
            self._forget_one()
            client = self._clients[name] = Client(self._per_minute, self._clock())
        self._clients.move_to_end(name)
        return client

    def _take(self, client: Client) -> Allowance:
        now, per_second = self._clock(), self._per_minute / 60
        client.tokens = min(self._per_minute, client.tokens + (now - client.filled_at) * per_second)
        client.filled_at = now
        if client.tokens < 1:
            self.num_refused["rate"] += 1
            wait_s = max(1, math.ceil((1 - client.tokens) / per_second))
            message = (
                f"You may make {self._per_minute} requests a minute (max_requests_per_minute); try again in {wait_s} s."
            )
            raise RateLimitError(message, retry_after_s=wait_s)
        client.tokens -= 1
        return Allowance(self._per_minute, int(client.tokens), (self._per_minute - client.tokens) / per_second)

    def _forget_one(self) -> None:
        if len(self._clients) >= self._max_clients:
            idle = next((name for name, client in self._clients.items() if client.num_running == 0), None)
            if idle is not None:
                del self._clients[idle]


class RequestLimitMiddleware:
    """Holds every request but the polled ones and those for the chat page's files to the limits, from its headers to
    the last byte of its answer.
    """

    def __init__(self, app: ASGIApp, limits: RequestLimits) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = route_path(scope) if scope["type"] == "http" else None
        if path is None or path in POLLED_PATHS or is_page(path):
            await self.app(scope, receive, send)
            return
        name = exchange(scope).key_id or _address(scope)
        allowance = self.limits.enter(name)

        async def send_with_allowance(message: Message) -> None:
            if allowance is not None and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *allowance.headers()]
            await send(message)

        try:
            await self.app(scope, receive, send_with_allowance)
        finally:
            self.limits.leave(name)


def _address(scope: Scope) -> str:
    """Of the client, for which uvicorn has looked at X-Forwarded-For if it may; all of a Unix socket's are one."""
    client = scope.get("client")
    return str(client[0]) if client else "local"
