"""Tiny models, loaded backends, and llama.cpp itself to compare with."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.backends.gguf.options import GGUFOptions
from support.llama_oracle import LlamaOracle
from support.step_driver import StepDriver
from support.tiny_gguf import TinyModel

LoadBackend = Callable[..., GGUFBackend]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def write_model(model_folder: Path) -> Callable[[TinyModel], Path]:
    """Writes a model unless this session did already, and gives its path."""
    written: dict[TinyModel, Path] = {}

    def write(model: TinyModel) -> Path:
        if model not in written:
            written[model] = model.write(model_folder / f"tiny-{len(written)}.gguf")
        return written[model]

    return write


@pytest.fixture(scope="session")
def tiny_llama(write_model: Callable[[TinyModel], Path]) -> Path:
    return write_model(TinyModel())


@pytest.fixture
def load_backend(tiny_llama: Path) -> Iterator[LoadBackend]:
    """Loads a backend with these options (by default the tiny Llama, 4 slots of 256 tokens); closes it afterwards."""
    loaded: list[GGUFBackend] = []

    def load(path: Path = tiny_llama, **options: Any) -> GGUFBackend:
        defaults = {"max_num_seqs": 4, "max_model_len": 256, "max_num_batched_tokens": 256, "threads": 1}
        backend = GGUFBackend.load(path, GGUFOptions(**{**defaults, **options}))
        loaded.append(backend)
        return backend

    yield load
    for backend in loaded:
        backend.close()


@pytest.fixture
def driver(load_backend: LoadBackend) -> StepDriver:
    return StepDriver(load_backend())


@pytest.fixture(scope="session")
def oracle(tiny_llama: Path) -> Iterator[LlamaOracle]:
    oracle = LlamaOracle(tiny_llama)
    yield oracle
    oracle.close()
