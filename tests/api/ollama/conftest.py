"""Ollama's own client, connected to a model that answers with what it was asked."""

from collections.abc import Iterator

import ollama
import pytest

from support.api_server import RunningServer
from support.ollama_client import ollama_client


@pytest.fixture(scope="module")
def client(parrots: RunningServer) -> Iterator[ollama.Client]:
    with ollama_client(parrots.url, timeout_s=30) as client:
        yield client
