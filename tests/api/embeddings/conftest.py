"""Servers of a real embedding model, on both backends."""

from collections.abc import Iterator

import pytest

from support import sentence_model
from support.served_process import ServedProcess, served_process


@pytest.fixture(scope="session", params=["paged", "gguf"])
def minilm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProcess]:
    """`pagemill serve` with the model, by the name `minilm`."""
    folder = tmp_path_factory.mktemp("minilm")
    path = sentence_model.folder() if request.param == "paged" else sentence_model.gguf_file(folder)
    flags = ("--port", "0", "--served-model-name", "minilm", "--threads", "1", "--dtype", "float32")
    with served_process(str(path), *(flags if request.param == "paged" else flags[:-2]), step_delay_s=None) as served:
        yield served
