"""Loading models: what a good file says of itself, and how a bad one is refused."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.backends.gguf.metadata import read_metadata
from pagemill.backends.gguf.model import quantization_name
from pagemill.errors import ModelLoadError
from support.tiny_gguf import CHAT_TEMPLATE, TinyModel

LoadBackend = Callable[..., GGUFBackend]
WriteModel = Callable[[TinyModel], Path]


def test_a_model_says_what_it_is(load_backend: LoadBackend, tiny_llama: Path) -> None:
    info = load_backend(max_model_len=256, max_num_seqs=2).info
    assert (info.architecture, info.format, info.quantization) == ("llama", "gguf", "F32")
    assert (info.context_length, info.embedding_length, info.vocab_size) == (1024, 64, 268)
    assert info.num_parameters == 115_776
    assert info.size_bytes == tiny_llama.stat().st_size
    assert info.memory_bytes == 115_776 * 4 + 2 * 256 * (2 * 2 * 64 * 2)  # weights, slots * tokens * layers * k and v
    assert info.chat_template == CHAT_TEMPLATE


def test_metadata_is_that_of_the_file_with_arrays(load_backend: LoadBackend, tiny_llama: Path) -> None:
    gguf = pytest.importorskip("gguf")
    fields = gguf.GGUFReader(tiny_llama).fields
    metadata = load_backend().info.metadata
    expected = {name: field.contents() for name, field in fields.items() if not name.startswith("GGUF.")}
    assert dict(metadata) == expected
    assert len(metadata["tokenizer.ggml.tokens"]) == 268  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options"),
    [{"mmap": False}, {"mmap": True, "mlock": True}, {"mmap": False, "mlock": True}, {"threads": None}],
)
def test_ways_to_load_all_give_a_working_model(load_backend: LoadBackend, options: dict[str, bool]) -> None:
    assert load_backend(**options).tokenizer.vocab_size == 268


def test_a_missing_file_is_named(tmp_path: Path, load_backend: LoadBackend) -> None:
    with pytest.raises(ModelLoadError, match=r"gone\.gguf: No such file"):
        load_backend(tmp_path / "gone.gguf")


def test_a_folder_is_refused(tmp_path: Path, load_backend: LoadBackend) -> None:
    with pytest.raises(ModelLoadError, match="Is a directory"):
        load_backend(tmp_path)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, load_backend: LoadBackend) -> None:
    path = tmp_path / "page.gguf"
    path.write_text("<html>404</html>")
    with pytest.raises(ModelLoadError, match=r"page\.gguf: it is not a GGUF file"):
        load_backend(path)


@pytest.mark.parametrize("kept", [0.0001, 0.005, 0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, tiny_llama: Path, load_backend: LoadBackend, kept: float) -> None:
    data = tiny_llama.read_bytes()
    path = tmp_path / "half.gguf"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelLoadError, match=r"half\.gguf: .{5,}"):
        load_backend(path)


def test_a_file_that_ends_within_its_weights_says_so(
    tmp_path: Path, tiny_llama: Path, load_backend: LoadBackend
) -> None:
    path = tmp_path / "half.gguf"
    path.write_bytes(tiny_llama.read_bytes()[:-1000])
    with pytest.raises(ModelLoadError, match="corrupted or incomplete"):
        load_backend(path)


def test_a_damaged_header_is_refused(tmp_path: Path, tiny_llama: Path, load_backend: LoadBackend) -> None:
    data = bytearray(tiny_llama.read_bytes())
    data[8:24] = struct.pack("<QQ", 2**40, 2**40)  # numbers of tensors and of pairs
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelLoadError, match=r"damaged\.gguf"):
        load_backend(path)
    with pytest.raises(ModelLoadError, match=r"damaged\.gguf has no valid GGUF header"):
        read_metadata(path)


def test_an_unknown_architecture_is_named(tmp_path: Path, tiny_llama: Path, load_backend: LoadBackend) -> None:
    path = tmp_path / "alien.gguf"
    path.write_bytes(tiny_llama.read_bytes().replace(b"llama", b"alien"))
    with pytest.raises(ModelLoadError, match=r"alien\.gguf: unknown model architecture: 'alien'"):
        load_backend(path)


def test_an_embedding_model_is_refused_by_its_kind(load_backend: LoadBackend, write_model: WriteModel) -> None:
    path = write_model(TinyModel(pooling="mean"))
    with pytest.raises(ModelLoadError, match=r"llama is an embedding model, it does not generate text"):
        load_backend(path)


def test_an_encoder_only_model_is_refused_by_its_kind(load_backend: LoadBackend, write_model: WriteModel) -> None:
    path = write_model(TinyModel(causal=False))
    with pytest.raises(ModelLoadError, match=r"llama is an encoder-only model"):
        load_backend(path)


def test_a_quantized_cache_without_flash_attention_is_refused_with_the_reason(load_backend: LoadBackend) -> None:
    with pytest.raises(ModelLoadError, match="quantized V cache requires flash_attn"):
        load_backend(kv_cache_dtype="q8_0", flash_attn="off")


def test_more_slots_than_llama_cpp_has_are_refused(load_backend: LoadBackend) -> None:
    with pytest.raises(ModelLoadError, match="max_num_seqs 257"):
        load_backend(max_num_seqs=257)


@pytest.mark.parametrize(
    ("ftype", "name"),
    [
        ("Q4_K - Medium", "Q4_K_M"),
        ("Q3_K - Large", "Q3_K_L"),
        ("Q8_0", "Q8_0"),
        ("(guessed) F16", "F16"),
        ("all F32", "F32"),
        ("IQ4_XS - 4.25 bpw", "IQ4_XS"),
        ("Q2_K - Medium", "Q2_K"),
    ],
)
def test_quantization_names_are_those_of_file_names(ftype: str, name: str) -> None:
    assert quantization_name(ftype) == name
