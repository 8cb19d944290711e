"""What is estimated of a GGUF file by its header: no weights are read, and llama.cpp is not asked."""

from pathlib import Path

import pytest

from pagemill.backends.gguf.capacity import DEFAULT_KV_BYTES
from pagemill.backends.gguf.kv_size import padded
from pagemill.backends.gguf.memory_need import estimate_gguf
from pagemill.backends.gguf.metadata import LongArray, read_header, read_metadata
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.errors import ModelLoadError
from support.tiny_gguf import TinyModel

PLENTY = 2**40
TOKEN_BYTES = 2 * 2 * 32 * 2 * 2  # of KV: layers, heads, head size, keys and values, f16


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyModel().write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_the_header_is_the_metadata_without_its_long_arrays(tiny: Path) -> None:
    whole, header = read_metadata(tiny), read_header(tiny)
    assert header.values.keys() == whole.keys()
    for key, value in whole.items():
        if isinstance(header.values[key], LongArray):
            assert isinstance(value, list)
            assert header.values[key] == LongArray(len(value))
        else:
            assert header.values[key] == value


def test_tensors_and_header_make_up_the_file(tiny: Path) -> None:
    tensor_bytes = sum(read_header(tiny).tensor_bytes.values())
    assert 0.5 * tiny.stat().st_size < tensor_bytes < tiny.stat().st_size


@pytest.mark.parametrize("cut", [2, 20, 4000])
def test_a_file_that_was_cut_off_is_named(tiny: Path, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny.read_bytes()[:cut])
    with pytest.raises(ModelLoadError, match=r"cut\.gguf has no valid GGUF header"):
        estimate_gguf([path], GGUFOptions(), PLENTY)


def test_a_part_that_is_missing_is_named(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"can't read .*b\.gguf"):
        estimate_gguf([tiny, tmp_path / "b.gguf"], GGUFOptions(), PLENTY)


def test_the_kv_cache_is_that_of_the_slots_asked_for(tiny: Path) -> None:
    need = estimate_gguf([tiny], GGUFOptions(max_num_seqs=3, max_model_len=300), PLENTY)
    assert need.kv == 3 * padded(300) * TOKEN_BYTES
    half = estimate_gguf([tiny], GGUFOptions(max_num_seqs=3, max_model_len=300, kv_cache_dtype="q8_0"), PLENTY)
    assert half.kv == pytest.approx(need.kv * 17 / 32)


@pytest.mark.parametrize("budget", [2**22, 2**24, 2**40])
def test_what_is_left_open_of_the_kv_cache_is_limited_by_the_budget(
    tiny: Path, budget: int
) -> None:
    need = estimate_gguf([tiny], GGUFOptions(), budget)
    assert 0 < need.kv <= min(DEFAULT_KV_BYTES, budget // 8, (budget - need.weights) // 2)
    again = estimate_gguf([tiny], GGUFOptions(kv_cache_memory_bytes=need.kv), budget)
    assert again.kv == need.kv  # told so, the loader makes the same


def test_a_budget_that_leaves_nothing_still_gives_the_least_for_who_refuses_it(tiny: Path) -> None:
    need = estimate_gguf([tiny], GGUFOptions(max_num_seqs=2, max_model_len=256), 1)
    assert need.kv == 2 * 256 * TOKEN_BYTES
    assert need.total > 1


def test_an_embedding_model_keeps_no_keys_and_values(tmp_path: Path) -> None:
    path = TinyModel(causal=False, pooling="mean").write(tmp_path / "encoder.gguf")
    assert estimate_gguf([path], GGUFOptions(), PLENTY).kv == 0
    decoder = TinyModel().write(tmp_path / "decoder.gguf")
    assert estimate_gguf([decoder], GGUFOptions(runner="pooling", max_model_len=512), PLENTY).kv == 512 * TOKEN_BYTES


def test_recurrent_layers_keep_a_state_of_each_sequence(tmp_path: Path) -> None:
    path = TinyModel(architecture="mamba").write(tmp_path / "mamba.gguf")
    few, many = (estimate_gguf([path], GGUFOptions(max_num_seqs=count), PLENTY).kv for count in (2, 8))
    assert many == 4 * few > 0
