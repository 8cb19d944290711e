"""How many sequences of what length: what is asked for holds or is refused, what is left open is chosen to fit."""

from collections.abc import Callable

import pytest

from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.backends.gguf.capacity import Capacity, choose_capacity
from pagemill.backends.gguf.kv_size import KVSize
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.errors import ModelLoadError

LoadBackend = Callable[..., GGUFBackend]
KIB, MIB, GIB = 2**10, 2**20, 2**30


def choose(
    size: KVSize,
    context_length: int,
    free_bytes: int,
    *,
    length: int | None = None,
    seqs: int | None = None,
    kv: int = 0,
) -> Capacity:
    options = GGUFOptions(max_model_len=length, max_num_seqs=seqs, kv_cache_memory_bytes=kv or None)
    return choose_capacity(size, context_length, options, free_bytes)


def test_a_small_model_gets_sixteen_slots_of_its_context() -> None:
    assert choose(KVSize(KIB, 0), 2000, 8 * GIB) == Capacity(16, 2000)


def test_a_long_context_is_not_reserved_unasked() -> None:
    assert choose(KVSize(12 * KIB, 0), 131072, 20 * GIB) == Capacity(16, 8192)
    assert choose(KVSize(12 * KIB, 0), 131072, 20 * GIB, length=131072) == Capacity(2, 131072)


def test_a_large_model_gets_fewer_slots_rather_than_short_ones() -> None:
    assert choose(KVSize(128 * KIB, 0), 32768, 20 * GIB) == Capacity(4, 8192)


def test_asked_for_slots_make_sequences_shorter() -> None:
    assert choose(KVSize(MIB, 0), 131072, 5600 * MIB, seqs=4) == Capacity(4, 512)


def test_one_slot_is_shortened_when_even_that_does_not_fit() -> None:
    assert choose(KVSize(MIB, 0), 131072, 2 * GIB) == Capacity(1, 1024)


def test_what_is_asked_for_may_take_half_of_the_free_memory() -> None:
    assert choose(KVSize(MIB, 0), 8192, 40 * GIB, seqs=2, length=8192) == Capacity(2, 8192)


def test_a_length_that_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(ModelLoadError, match=r"max_num_seqs 4 with max_model_len 1000 needs 4096 MiB.*2800 MiB.*512"):
        choose(KVSize(MIB, 0), 131072, 5600 * MIB, seqs=4, length=1000)


def test_too_many_slots_are_refused_with_the_numbers() -> None:
    with pytest.raises(ModelLoadError, match=r"max_num_seqs 64 with max_model_len 1 needs 16384 MiB.*4096 MiB"):
        choose(KVSize(MIB, 0), 131072, 8 * GIB, seqs=64)


def test_a_length_beyond_training_is_allowed_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert choose(KVSize(KIB, 0), 2000, 8 * GIB, length=3000).max_model_len == 3000
    assert "max_model_len 3000 is beyond the 2000 tokens the model was trained for" in caplog.text


def test_a_recurrent_state_costs_the_same_at_any_length() -> None:
    assert choose(KVSize(0, MIB), 1_000_000, 10 * MIB, length=1_000_000, seqs=4) == Capacity(4, 1_000_000)
    with pytest.raises(ModelLoadError, match="room for 0 tokens"):
        choose(KVSize(0, 2 * MIB), 1_000_000, 10 * MIB, seqs=4)


def test_the_memory_setting_binds_the_loaded_model(load_backend: LoadBackend) -> None:
    backend = load_backend(max_model_len=None, max_num_seqs=4, kv_cache_memory_bytes=4 * 600 * 512)  # 512 bytes a token
    assert backend.max_model_len == 512
