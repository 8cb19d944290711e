"""How much KV a model needs, against what llama.cpp says it allocates."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.backends.gguf.kv_size import kv_size
from support.tiny_gguf import TinyModel

LoadBackend = Callable[..., GGUFBackend]
WriteModel = Callable[[TinyModel], Path]
MIB = 2**20


@pytest.mark.parametrize(
    ("architecture", "kv_type"),
    [(architecture, kv_type) for architecture in ("llama", "qwen3", "gemma2") for kv_type in ("f16", "q8_0", "q4_0")]
    + [("mamba", "f16")],
)
def test_the_computed_size_is_what_llama_cpp_allocates(
    load_backend: LoadBackend,
    write_model: WriteModel,
    caplog: pytest.LogCaptureFixture,
    architecture: str,
    kv_type: str,
) -> None:
    path = write_model(TinyModel(architecture=architecture, num_layers=3))  # type: ignore[arg-type]
    with caplog.at_level("DEBUG", logger="pagemill.backends.gguf.library"):
        backend = load_backend(path, max_num_seqs=8, max_model_len=900, kv_cache_dtype=kv_type)
    sizes = re.findall(r"(?:KV|RS) buffer size = +([0-9.]+) MiB", caplog.text)
    allocated = sum(float(size) for size in sizes)
    computed = kv_size(backend._model, kv_type).of_slot(900) * 8 / MIB
    assert allocated > 0
    assert computed == pytest.approx(allocated, abs=0.02)
