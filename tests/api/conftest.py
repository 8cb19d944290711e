"""Servers for the API's tests: `serve` starts one with any backend and settings; `server` is one with the defaults,
shared by a module's tests.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.api_server import RunningServer, Serve, running_server


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
