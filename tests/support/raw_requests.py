"""Requests on sockets, which tests can close at any moment."""

import json
import socket
from collections.abc import Mapping


def begun(port: int, path: str, body: Mapping[str, object]) -> socket.socket:
    """A request that was sent and whose answer nobody has read."""
    data = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", port))
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection
