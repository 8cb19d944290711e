"""Servers for the lists of behaviours: a fake model where the answer must be known, the demo model where it is the
model's own, on both backends.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pagemill.backends.fake import FakeBackend
from support import sentence_model
from support.api_server import RunningServer, Serve, running_server
from support.chat_scripts import parrot
from support.model_server import ModelServer, model_server, serve_grist


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers with options of the test's own; they stop when it ends."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(running_server(*args, **options))


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """The fake model."""
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def parrots() -> Iterator[RunningServer]:
    """A server whose model answers with what it was asked."""
    with running_server(FakeBackend(reply=parrot)) as running:
        yield running


@pytest.fixture(scope="session", params=["gguf", pytest.param("paged", marks=pytest.mark.slow)])
def grist(request: pytest.FixtureRequest) -> Iterator[ModelServer]:
    """The demo model, in a process of its own."""
    yield from serve_grist(request.param)


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """A real embedding model, by the name `minilm`."""
    path = sentence_model.gguf_file(tmp_path_factory.mktemp("minilm"))
    with model_server(str(path), "--served-model-name", "minilm", "--port", "0", "--threads", "1") as server:
        yield server
