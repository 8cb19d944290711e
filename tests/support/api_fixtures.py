"""Fixtures of servers, for the conftests that import them."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, Serve, running_server
from support.chat_scripts import parrot


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers with options of the test's own; they stop when it ends."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(running_server(*args, **options))


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server with the defaults, for tests that leave it as they found it."""
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def parrots() -> Iterator[RunningServer]:
    """A server whose model answers with what it was asked."""
    with running_server(FakeBackend(reply=parrot)) as running:
        yield running
