"""A server that writes recorded chunks straight to the socket, with neither HTTP library nor app: the fastest source
of chunks that Python has, to see that the client is not what limits `engine_cost.py`. Streams take turns as in the
paced bare app. State: the recording.
"""

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import cast

import uvloop

from load_tests.bare_app import RECORDING_VARIABLE

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Replay(asyncio.Protocol):
    """One connection: a GET is answered empty, anything else with all chunks, one per turn of the event loop."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks
        self._position = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if data.startswith(b"GET "):
            self._transport.write(EMPTY)
            self._transport.close()
        elif data.startswith(b"POST "):
            self._transport.write(HEAD)
            self._write_next()

    def _write_next(self) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self._transport.write(self._chunks[self._position])
        self._position += 1
        if self._position < len(self._chunks):
            asyncio.get_running_loop().call_soon(self._write_next)


def read_chunks(path: Path) -> list[bytes]:
    """The recording, framed as a chunked body."""
    messages = [message.encode() for message in json.loads(path.read_text())["messages"]]
    return [b"%x\r\n%b\r\n" % (len(message), message) for message in messages] + [b"0\r\n\r\n"]


async def serve(port: int, chunks: list[bytes]) -> None:
    """Replay the chunks until the process ends."""
    server = await asyncio.get_running_loop().create_server(lambda: Replay(chunks), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Serve on --port."""
    parser = argparse.ArgumentParser(description="write recorded chunks to every client that posts")
    parser.add_argument("--port", type=int, required=True, help="port of 127.0.0.1")
    port = parser.parse_args().port
    chunks = read_chunks(Path(os.environ[RECORDING_VARIABLE]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(port, chunks))


if __name__ == "__main__":
    main()
