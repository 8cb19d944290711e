"""Ollama's own client, closed in the end."""

from collections.abc import Iterator
from contextlib import contextmanager

import ollama


@contextmanager
def ollama_client(url: str, *, timeout_s: float = 60) -> Iterator[ollama.Client]:
    """A client of the server at that address."""
    client = ollama.Client(host=url, timeout=timeout_s)
    try:
        yield client
    finally:
        client.close()  # type: ignore[no-untyped-call]  # the library lacks the annotation
