"""Anthropic's own client of a server that says what it is told, and that thinks if its prompt lets it."""

from collections.abc import Iterator

import anthropic
import pytest

from support.api_server import RunningServer, running_server
from support.chat_scripts import THINKING_TEMPLATE, scripted


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(scripted(THINKING_TEMPLATE)) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="unused", max_retries=0) as made:
        yield made
