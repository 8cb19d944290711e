"""A slot's KV survives being saved and loaded, bit for bit, whatever the number of slots and the kind of memory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from backends.gguf.conftest import LoadBackend
from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.engine.step import CopyKV, SequenceChunk
from pagemill.errors import BackendError
from support.step_driver import StepDriver
from support.tiny_gguf import TinyModel

PREFIX = list(range(40, 140))  # longer than the tiny Gemma's sliding window
REST = [30, 31, 32, 33]

WriteModel = Callable[[TinyModel], Path]


def saved_prefix(backend: GGUFBackend, slot: int = 0) -> memoryview:
    driver = StepDriver(backend)
    driver.start(slot, PREFIX)
    driver.generate(slot, num_steps=1)
    return backend.save_kv((slot,), len(PREFIX))


def continued(backend: GGUFBackend, slot: int, num_steps: int = 12) -> list[int]:
    """What the model says to the prefix, whose KV the slot holds, and the rest."""
    driver = StepDriver(backend)
    driver.start(slot, PREFIX + REST)
    driver.num_computed[slot] = len(PREFIX)
    driver.generate(slot, num_steps=num_steps)
    return driver.output(slot, PREFIX + REST)


def prefilled(backend: GGUFBackend, slot: int, num_steps: int = 12) -> list[int]:
    driver = StepDriver(backend)
    driver.start(slot, PREFIX + REST)
    driver.step(driver.chunk(slot, len(PREFIX)))
    driver.generate(slot, num_steps=num_steps)
    return driver.output(slot, PREFIX + REST)


@pytest.mark.parametrize("kv_cache_dtype", ["f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_another_number_of_slots_goes_on_with_the_same_tokens(
    load_backend: LoadBackend, write_model: WriteModel, architecture: str, kv_cache_dtype: str
) -> None:
    path = write_model(TinyModel(architecture=architecture))  # type: ignore[arg-type]  # one of its names
    data = saved_prefix(load_backend(path, max_num_seqs=1, kv_cache_dtype=kv_cache_dtype))
    backend = load_backend(path, max_num_seqs=4, kv_cache_dtype=kv_cache_dtype)
    for slot in (0, 2):
        backend.load_kv((slot,), len(PREFIX), memoryview(bytearray(data)))
    assert backend.save_kv((0,), len(PREFIX)) == data
    assert continued(backend, 2) == prefilled(backend, 1)


def test_one_buffer_for_all_slots_takes_it_too(load_backend: LoadBackend) -> None:
    data = saved_prefix(load_backend())
    backend = load_backend(kv_unified=True)
    backend.load_kv((3,), len(PREFIX), memoryview(bytearray(data)))
    assert continued(backend, 3) == prefilled(backend, 0)


def test_a_recurrent_state_is_restored(load_backend: LoadBackend, write_model: WriteModel) -> None:
    path = write_model(TinyModel(architecture="mamba"))
    data = saved_prefix(load_backend(path, max_num_seqs=1))
    backend = load_backend(path)
    backend.load_kv((2,), len(PREFIX), memoryview(bytearray(data)))
    assert continued(backend, 2) == prefilled(backend, 0)


def test_a_loaded_slot_is_copied_into_others(load_backend: LoadBackend) -> None:
    backend = load_backend()
    data = saved_prefix(backend)
    backend.load_kv((1,), len(PREFIX), memoryview(bytearray(data)))
    driver = StepDriver(backend)
    for slot in (2, 3):
        driver.start(slot, PREFIX + REST)
        driver.num_computed[slot] = len(PREFIX)
    chunks: list[SequenceChunk] = [driver.chunk(slot) for slot in (2, 3)]
    driver.step(*chunks, operations=[CopyKV(1, 2, len(PREFIX)), CopyKV(1, 3, len(PREFIX))])
    driver.generate(2, 3, num_steps=5)
    expected = prefilled(load_backend(), 0, num_steps=6)
    assert driver.output(2, PREFIX + REST) == driver.output(3, PREFIX + REST) == expected


@pytest.mark.parametrize("cut", [4, 30, 1000])
def test_data_that_is_cut_short_is_refused_and_leaves_the_slot_empty(load_backend: LoadBackend, cut: int) -> None:
    backend = load_backend()
    data = saved_prefix(backend)
    with pytest.raises(BackendError):
        backend.load_kv((1,), len(PREFIX), memoryview(bytearray(data[:cut])))
    assert prefilled(backend, 1) == prefilled(backend, 2)


def test_identity_names_what_kv_depends_on(load_backend: LoadBackend) -> None:
    identity = load_backend(kv_cache_dtype="q8_0", flash_attn="on").kv_identity()
    assert identity["kv_cache_dtype"] == "q8_0"
    assert identity["flash_attn"] == "on"
    assert identity["llama_cpp"]
    assert identity == load_backend(kv_cache_dtype="q8_0", flash_attn="on", max_num_seqs=1).kv_identity()
