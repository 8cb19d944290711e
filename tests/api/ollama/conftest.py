"""Servers and clients for the Ollama dialect's tests. The parrot's answer shows the user messages that it was given."""

from collections.abc import Iterator

import ollama
import pytest

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, running_server
from support.chat_scripts import parrot


@pytest.fixture(scope="module")
def parrots() -> Iterator[RunningServer]:
    """A server whose model answers with what it was asked."""
    with running_server(FakeBackend(reply=parrot)) as running:
        yield running


@pytest.fixture(scope="module")
def client(parrots: RunningServer) -> Iterator[ollama.Client]:
    """Ollama's own client, connected to the parrot."""
    client = ollama.Client(host=parrots.url, timeout=30)
    yield client
    client.close()  # type: ignore[no-untyped-call]  # the library lacks the annotation
