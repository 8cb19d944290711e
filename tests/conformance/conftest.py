"""The backends that the suite runs against. Each case gets an engine on a small model, with the limits it asks for."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from pagemill.backends.base import Backend
from pagemill.backends.fake import FakeBackend
from pagemill.engine.engine import Engine, EngineConfig

MAX_MODEL_LEN = 256

OpenEngine = Callable[..., Awaitable[Engine]]
LoadBackend = Callable[[int, int], Backend]


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.tiny_gguf import TinyModel

    return TinyModel().write(tmp_path_factory.mktemp("conformance") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.tiny_safetensors import TinyModel

    return TinyModel().write(tmp_path_factory.mktemp("conformance") / "tiny")


@pytest.fixture(scope="session")
def no_model() -> Path:
    return Path("fake")


def load_fake(path: Path, max_num_seqs: int, max_num_batched_tokens: int, *, pipelined: bool = False) -> Backend:
    return FakeBackend(
        pipelined=pipelined,
        reply=lambda prompt: None,
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
    )


def load_gguf(path: Path, max_num_seqs: int, max_num_batched_tokens: int) -> Backend:
    from pagemill.backends.gguf.backend import GGUFBackend
    from pagemill.backends.gguf.options import GGUFOptions

    options = GGUFOptions(
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        threads=1,
    )
    return GGUFBackend.load(path, options)


def load_paged(path: Path, max_num_seqs: int, max_num_batched_tokens: int, *, pipelined: bool = False) -> Backend:
    from pagemill.backends.paged.backend import PagedBackend
    from pagemill.backends.paged.options import PagedOptions

    options = PagedOptions(
        device="cpu",
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        kv_cache_memory_bytes=2**20,
        threads=1,
        async_scheduling=pipelined,
    )
    return PagedBackend.load(path, options)


# How to load each, and the fixture that makes its model.
LOADERS: dict[str, tuple[Callable[[Path, int, int], Backend], str]] = {
    "fake": (load_fake, "no_model"),
    "fake-pipelined": (partial(load_fake, pipelined=True), "no_model"),
    "gguf": (load_gguf, "tiny_gguf"),
    "paged": (load_paged, "tiny_folder"),
    "paged-pipelined": (partial(load_paged, pipelined=True), "tiny_folder"),
}


@pytest.fixture(params=sorted(LOADERS))
def load_backend(request: pytest.FixtureRequest) -> LoadBackend:
    """Loads the backend under test, with these limits: `max_num_seqs`, `max_num_batched_tokens`."""
    load, model = LOADERS[request.param]
    return partial(load, request.getfixturevalue(model))


@pytest.fixture
async def open_engine(load_backend: LoadBackend) -> AsyncIterator[OpenEngine]:
    """Starts engines on the backend under test; they are closed at the end of the case."""
    opened: list[Engine] = []

    async def open_one(
        *, max_num_seqs: int = 8, max_num_batched_tokens: int = 256, enable_prefix_caching: bool = True
    ) -> Engine:
        backend = load_backend(max_num_seqs, max_num_batched_tokens)
        engine = Engine(backend, EngineConfig(enable_prefix_caching=enable_prefix_caching))
        engine.start()
        opened.append(engine)
        return engine

    yield open_one
    for engine in opened:
        await engine.close()
