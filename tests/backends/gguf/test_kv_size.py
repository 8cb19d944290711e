"""How much KV a model needs, against what llama.cpp says it allocates; and how long sequences may then be."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.backends.gguf.kv_size import KVSize, choose_max_model_len, kv_size
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.errors import ModelLoadError
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


def options(max_model_len: int | None = None, max_num_seqs: int = 4) -> GGUFOptions:
    return GGUFOptions(max_model_len=max_model_len, max_num_seqs=max_num_seqs)


def test_the_models_context_is_taken_when_it_fits() -> None:
    assert choose_max_model_len(KVSize(1000, 0), 2000, options(), 4 * 2048 * 1000) == 2000


def test_less_memory_makes_sequences_shorter_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_max_model_len(KVSize(MIB, 0), 131072, options(), 4 * 700 * MIB) == 512
    assert "max_model_len is 512, not the model's 131072: so 4 sequences fit 2800 MiB" in caplog.text


def test_a_length_that_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(ModelLoadError, match=r"max_model_len 1000 with max_num_seqs 4 needs 4096 MiB.*2800 MiB.*512"):
        choose_max_model_len(KVSize(MIB, 0), 131072, options(1000), 4 * 700 * MIB)


def test_a_length_beyond_training_is_allowed_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_max_model_len(KVSize(1000, 0), 2000, options(3000), 2**30) == 3000
    assert "max_model_len 3000 is beyond the 2000 tokens the model was trained for" in caplog.text


def test_too_many_slots_are_refused_with_the_numbers() -> None:
    with pytest.raises(ModelLoadError, match="max_num_seqs 64 needs 16384 MiB of KV cache at the least, and 4096 MiB"):
        choose_max_model_len(KVSize(MIB, 0), 131072, options(max_num_seqs=64), 4096 * MIB)


def test_a_recurrent_state_costs_the_same_at_any_length() -> None:
    assert choose_max_model_len(KVSize(0, MIB), 1_000_000, options(), 5 * MIB) == 1_000_000
    with pytest.raises(ModelLoadError, match="at the least"):
        choose_max_model_len(KVSize(0, 2 * MIB), 1_000_000, options(), 5 * MIB)


def test_the_memory_setting_binds_the_loaded_model(load_backend: LoadBackend) -> None:
    backend = load_backend(max_model_len=None, kv_cache_memory_bytes=4 * 600 * 512)  # 512 bytes a token
    assert backend.max_model_len == 512
