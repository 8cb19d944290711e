"""What models take of memory, beside what was estimated before they were loaded: each in a process of its own."""

import json
from pathlib import Path

import pytest
from load_tests.memory_need import MIB, measure
from load_tests.model_folders import write_folder
from load_tests.models import Shape, quantize, write_model

from pagemill.backend_choice import estimate_memory, load_backend
from pagemill.errors import ModelLoadError
from pagemill.settings import Settings
from pagemill.store.references import resolve_local
from support import sentence_model

SHAPE = Shape(hidden=512, layers=4, heads=8, kv_heads=8, head_dim=64, feed_forward=2048, vocab=8192)
LIMITS = {"max_num_seqs": 8, "max_model_len": 1024, "threads": 2}
KV_BYTES = 8 * 1024 * 4 * 2 * 8 * 64 * 2  # what those sequences take in two-byte numbers


@pytest.fixture(scope="module")
def q8_0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("q8") / "q8.gguf"
    write_model(path, SHAPE)
    return path


def check(path: Path, *, within: float = 0.15, **settings: object) -> None:
    taken = measure(path, **{**LIMITS, **settings})
    assert abs(taken.estimated - taken.measured) < max(within * taken.measured, 24 * MIB), taken
    assert taken.left < taken.measured / 4, taken  # allocators keep some; a model that stayed would be all of it


def test_of_a_gguf_file(q8_0: Path) -> None:
    check(q8_0)


def test_of_a_gguf_file_whose_weights_are_laid_out_anew(q8_0: Path, tmp_path: Path) -> None:
    path = tmp_path / "q4.gguf"
    quantize(q8_0, path)
    check(path)


def test_of_a_gguf_file_that_is_read_instead_of_mapped(q8_0: Path) -> None:
    check(q8_0, mmap=False, kv_cache_dtype="q8_0")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_of_a_model_folder(tmp_path: Path, dtype: str) -> None:
    write_folder(tmp_path / "folder", SHAPE)
    kv_bytes = KV_BYTES * (2 if dtype == "float32" else 1)
    # Torch's threads free memory for themselves: how much more there is depends on what else runs.
    check(tmp_path / "folder", within=0.25, dtype=dtype, device="cpu", kv_cache_memory_bytes=kv_bytes)


def test_of_an_embedding_model(tmp_path: Path) -> None:
    check(sentence_model.gguf_file(tmp_path), max_model_len=256)
    check(sentence_model.folder(), within=0.25, max_model_len=256, device="cpu", dtype="float32")


def test_a_config_without_heads_is_left_to_the_load_to_refuse(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write_folder(folder, SHAPE)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_attention_heads": 0}))
    reference, settings = resolve_local(str(folder)), Settings(device="cpu")
    assert estimate_memory(reference, settings, lambda device: 2**32).weights > 0
    with pytest.raises(ModelLoadError, match="num_attention_heads=0 is not a positive integer"):
        load_backend(reference, settings)
