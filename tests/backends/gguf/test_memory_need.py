"""What is estimated of a GGUF file by its header: no weights are read, and llama.cpp is not asked."""

from pathlib import Path

import gguf
import numpy as np
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
    tensor_bytes = sum(tensor.num_bytes for tensor in read_header(tiny).tensors)
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
def test_what_is_left_open_of_the_kv_cache_is_limited_by_the_budget(tiny: Path, budget: int) -> None:
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


def header_only(path: Path, **values: int | list[int]) -> Path:
    """A file that says these things of its model, of 4 layers, 512 wide, with 8 heads, and holds one number."""
    writer = gguf.GGUFWriter(path, "some")
    sizes = {"block_count": 4, "embedding_length": 512, "context_length": 4096, "attention.head_count": 8}
    for name, value in {**sizes, **values}.items():
        key = f"some.{name.replace('__', '.')}"
        writer.add_array(key, value) if isinstance(value, list) else writer.add_uint32(key, value)
    writer.add_tensor("output_norm.weight", np.zeros(1, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("values", "num_values"),
    [
        pytest.param({}, 4 * 8 * 2 * 64, id="all heads"),
        pytest.param({"attention__head_count_kv": 2}, 4 * 2 * 2 * 64, id="grouped queries"),
        pytest.param({"attention__head_count_kv": [2, 0, 2, 0]}, 2 * 2 * 2 * 64, id="layers without"),
        pytest.param(
            {
                "attention__head_count_kv": 1,
                "attention__key_length": 576,
                "attention__value_length": 512,
                "attention__key_length_mla": 192,
            },
            4 * 576,
            id="latent attention",
        ),
        pytest.param({"attention__head_count_kv": 2, "attention__sliding_window": 64}, 4 * 2 * 2 * 64, id="windows"),
    ],
)
def test_the_kv_cache_is_that_of_the_kind_of_attention(
    tmp_path: Path, values: dict[str, int | list[int]], num_values: int
) -> None:
    path = header_only(tmp_path / "header.gguf", **values)
    assert estimate_gguf([path], GGUFOptions(max_num_seqs=1, max_model_len=256), PLENTY).kv == 256 * num_values * 2


def test_layers_with_a_state_take_it_beside_the_kv_cache(tmp_path: Path) -> None:
    state = {"ssm__inner_size": 256, "ssm__state_size": 16, "ssm__conv_kernel": 4}
    plain, hybrid = (
        estimate_gguf(
            [header_only(tmp_path / f"{len(values)}.gguf", attention__head_count_kv=2, **values)],
            GGUFOptions(max_num_seqs=1, max_model_len=256),
            PLENTY,
        ).kv
        for values in ({}, state)
    )
    assert hybrid - plain == 4 * (3 * 256 + 256 * 16) * 4


@pytest.mark.parametrize(
    ("hidden", "inner", "num_used", "buffers"),
    [(512, 384, 8, 34.6), (1024, 384, 8, 52.7), (512, 1024, 8, 69.5), (1024, 768, 4, 36.6)],
)
def test_a_tokens_experts_are_computed_at_once(
    tmp_path: Path, hidden: int, inner: int, num_used: int, buffers: float
) -> None:
    """`buffers`: MiB that random models of qwen3moe, 16 experts, took beside weights and KV (512 tokens, F16)."""
    path = header_only(
        tmp_path / "header.gguf",
        embedding_length=hidden,
        attention__key_length=64,
        feed_forward_length=inner,
        expert_feed_forward_length=inner,
        expert_used_count=num_used,
    )
    compute = estimate_gguf([path], GGUFOptions(max_num_seqs=8, max_model_len=1024), PLENTY).compute
    assert compute / 2**20 == pytest.approx(buffers, rel=0.15)
