"""A server of one file's ranges, as fast as Python can: what bounds a fetch when the server doesn't. Run as a process:

python -m load_tests.range_server FILE PORT

Speaks as much of S3 as a fetch of one object needs: HEAD, with the checksum that S3 computes of uploads, and GET with
a range.
"""

import base64
import os
import re
import sys
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pagemill.store.checksums import hasher

RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class RangeServer(ThreadingHTTPServer):
    """Owns the open file."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, port: int) -> None:
        super().__init__(("127.0.0.1", port), RangeHandler)
        self.file = path.open("rb")
        self.size = path.stat().st_size
        crc = hasher("CRC64NVME")
        crc.update(path.read_bytes())
        self.checksum = base64.b64encode(crc.digest()).decode()


class RangeHandler(BaseHTTPRequestHandler):
    """Any path is the file."""

    protocol_version = "HTTP/1.1"
    server: RangeServer

    def do_HEAD(self) -> None:  # as the base class finds it
        self._send_head(200, self.server.size)

    def do_GET(self) -> None:  # likewise
        asked = RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is None:
            self.send_error(400, "only ranges")
            return
        start, end = int(asked[1]), int(asked[2]) + 1
        self._send_head(206, end - start, f"bytes {start}-{end - 1}/{self.server.size}")
        while start < end:
            start += os.sendfile(self.connection.fileno(), self.server.file.fileno(), start, end - start)

    def _send_head(self, status: int, length: int, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("ETag", '"the only one"')
        self.send_header("x-amz-checksum-crc64nvme", self.server.checksum)
        self.send_header("Last-Modified", formatdate(usegmt=True))
        self.send_header("Content-Length", str(length))
        if content_range is not None:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.flush()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the base class's name
        """Nothing."""


if __name__ == "__main__":
    RangeServer(Path(sys.argv[1]), int(sys.argv[2])).serve_forever()
