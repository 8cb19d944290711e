"""uvicorn's HTTP protocol for a server that upgrades to nothing, with a limit on what it keeps of headers.

Owns the state of one connection. Two things of uvicorn's are mended here:

- A request that offers an upgrade (Java's HTTP client offers HTTP/2 with each) has its head, and then its body, as any
  other. httptools' parser takes what follows the head for the other protocol's.
- uvicorn keeps headers, and what may become one, without a limit, in quadratic time.
"""

from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

FRAMING = (b"content-length", b"transfer-encoding")


class HeadersTooLargeError(Exception):
    """Raised through httptools' parser, whose error has it as its context."""


class PagemillProtocol(HttpToolsProtocol):
    """One connection. Its limit is the configuration's `h11_max_incomplete_event_size`, which uvicorn has for h11."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_header_bytes = self.config.h11_max_incomplete_event_size or 0
        self._has_progressed = False  # whether what came last ended a head, or was of a body
        self._num_unread = 0  # bytes that came since without either: the beginning of a head, or trailers

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._has_progressed = False
        num_bytes = len(data)
        try:
            while data:
                data = self._feed(data)
            self._count(num_bytes)
        except HeadersTooLargeError:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except httptools.HttpParserError as error:
            too_large = isinstance(error.__context__, HeadersTooLargeError)
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if too_large else HTTPStatus.BAD_REQUEST)

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > self._max_header_bytes:
            raise HeadersTooLargeError
        self._has_progressed = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._has_progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():  # else the body is still to come
            self._has_progressed = True
            super().on_message_complete()

    def _feed(self, data: bytes) -> bytes:
        """Parse it, or its part up to the end of a head that offers an upgrade: then the rest is given back."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            framing = b"".join(b"%s: %s\r\n" % header for header in self.headers if header[0] in FRAMING)
            self.parser = httptools.HttpRequestParser(AfterHead(self))
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % framing)
            return data[offer.args[0] :]
        return b""

    def _count(self, num_bytes: int) -> None:
        self._num_unread = 0 if self._has_progressed else self._num_unread + num_bytes
        if self._num_unread > self._max_header_bytes:
            raise HeadersTooLargeError

    def _refuse(self, status: HTTPStatus) -> None:
        text = "Invalid HTTP request received."
        if status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            text = f"The headers are larger than {self._max_header_bytes} bytes (setting max_header_bytes)."
        self.logger.warning("%s", text)
        head = (
            f"HTTP/1.1 {status} {status.phrase}",
            "content-type: text/plain; charset=utf-8",
            f"content-length: {len(text)}",
            "connection: close",
        )
        self.transport.write("\r\n".join([*head, "", text]).encode())
        self.transport.close()


class AfterHead:
    """A protocol's callbacks for a parser whose first head is one that the protocol has seen."""

    def __init__(self, protocol: PagemillProtocol) -> None:
        self._protocol = protocol
        self._is_seen = True
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if not self._is_seen:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._is_seen:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_seen:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._is_seen:
            self._protocol.on_headers_complete()
        self._is_seen = False
