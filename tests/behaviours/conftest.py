"""Servers for the lists of behaviours: a fake model where the answer must be known, the demo model where it is the
model's own, on both backends.
"""

from collections.abc import Iterator

import pytest

from support import sentence_model
from support.api_fixtures import parrots, serve, server
from support.model_server import FLAGS, ModelServer, model_server

__all__ = ["embedder", "grist", "parrots", "serve", "server"]


@pytest.fixture(scope="session", params=["gguf", pytest.param("paged", marks=pytest.mark.slow)])
def grist(request: pytest.FixtureRequest) -> Iterator[ModelServer]:
    """The demo model, in a process of its own."""
    device = ("--device", "cpu") if request.param == "paged" else ()
    with model_server("grist", "--backend", request.param, *device, *FLAGS) as running:
        yield running


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """A real embedding model, by the name `minilm`."""
    path = sentence_model.gguf_file(tmp_path_factory.mktemp("minilm"))
    with model_server(str(path), "--served-model-name", "minilm", "--port", "0", "--threads", "1") as running:
        yield running
