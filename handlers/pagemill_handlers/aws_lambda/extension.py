"""An internal extension, for one reason: Lambda sends SIGTERM only to sandboxes that have an extension.

Owns its connection. Registers before the first invocation is asked for, then waits for events that never come, since it
subscribes to none. Source: "Using the Lambda Extensions API" in the Lambda developer guide.
"""

import logging

from pagemill_handlers.aws_lambda.connection import Connection

logger = logging.getLogger(__name__)

EXTENSION = "/2020-01-01/extension"
NAME = "pagemill"
IDENTIFIER = "Lambda-Extension-Identifier"


class InternalExtension:
    """`register`, then `wait` in a task of its own, cancelled at the end."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._connection = Connection(host, int(port))
        self._identifier: str | None = None

    async def register(self) -> None:
        """Without it a shutdown is a kill, which spoils nothing but requests that run; so a refusal is only logged."""
        headers = {"Lambda-Extension-Name": NAME, "Content-Type": "application/json"}
        reply = await self._connection.request("POST", f"{EXTENSION}/register", headers, b'{"events": []}')
        self._identifier = reply.headers.get(IDENTIFIER.lower()) if reply.status == 200 else None
        if self._identifier is None:
            logger.warning("no extension, so shutdown will not drain: status %d, %r", reply.status, reply.body[:200])

    async def wait(self) -> None:
        """Asking for the next event tells Lambda that this extension's init is done."""
        try:
            if self._identifier is not None:
                headers = {IDENTIFIER: self._identifier}
                await self._connection.request("GET", f"{EXTENSION}/event/next", headers)
        except OSError as error:
            logger.warning("the extension has lost its connection: %s", error)
        finally:
            await self._connection.close()
