"""Ollama's own client, connected to a model that answers with what it was asked."""

from collections.abc import Iterator

import ollama
import pytest

from support.api_server import RunningServer


@pytest.fixture(scope="module")
def client(parrots: RunningServer) -> Iterator[ollama.Client]:
    client = ollama.Client(host=parrots.url, timeout=30)
    yield client
    client.close()  # type: ignore[no-untyped-call]  # the library lacks the annotation
