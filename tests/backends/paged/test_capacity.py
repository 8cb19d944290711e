"""What the settings leave open is chosen, what they ask for holds or is refused with the numbers."""

import pytest

from pagemill.backends.paged.capacity import choose_capacity, cpu_kv_bytes, step_limits
from pagemill.backends.paged.options import PagedOptions
from pagemill.errors import ModelLoadError, SettingsError

GIB = 2**30


def capacity(kv_bytes: int, max_model_len: int | None = None) -> tuple[int, int]:
    options = PagedOptions(max_model_len=max_model_len)
    chosen = choose_capacity(
        block_bytes=1000, kv_bytes=kv_bytes, context_length=100, options=options, device_type="cpu"
    )
    return chosen.num_blocks, chosen.max_model_len


def test_all_memory_becomes_pages_and_the_models_context_is_the_limit() -> None:
    assert capacity(20_999) == (20, 100)


def test_a_context_that_does_not_fit_is_cut_unless_it_was_asked_for() -> None:
    assert capacity(3_000) == (3, 48)
    with pytest.raises(ModelLoadError, match=r"100 tokens needs .* room for .*48 tokens"):
        capacity(3_000, max_model_len=100)


def test_more_context_than_the_model_was_made_for_is_possible() -> None:
    assert capacity(20_000, max_model_len=200) == (20, 200)


@pytest.mark.parametrize("kv_bytes", [999, 0, -5_000_000])
def test_without_room_for_a_page_the_model_is_refused(kv_bytes: int) -> None:
    with pytest.raises(ModelLoadError, match="lower max_model_len, or give more memory"):
        capacity(kv_bytes)


def test_the_longest_sequence_has_pages_for_its_last_part() -> None:
    chosen = choose_capacity(
        block_bytes=1, kv_bytes=100, context_length=33, options=PagedOptions(block_size=16), device_type="cpu"
    )
    assert chosen.max_blocks == 3


def test_memory_for_pages_is_at_most_half_of_what_is_free_and_4_gib() -> None:
    assert cpu_kv_bytes(PagedOptions(), GIB) == GIB // 2
    assert cpu_kv_bytes(PagedOptions(), 100 * GIB) == 4 * GIB
    assert cpu_kv_bytes(PagedOptions(kv_cache_memory_bytes=6 * GIB), 8 * GIB) == 6 * GIB
    with pytest.raises(ModelLoadError, match=r"kv_cache_memory_bytes is 6144 MiB, but only 1024 MiB are free"):
        cpu_kv_bytes(PagedOptions(kv_cache_memory_bytes=6 * GIB), GIB)


@pytest.mark.parametrize(
    ("device", "options", "limits"),
    [
        ("cpu", PagedOptions(), (64, 512)),
        ("cuda", PagedOptions(), (256, 2048)),
        ("cpu", PagedOptions(max_num_seqs=600), (600, 600)),
        ("cpu", PagedOptions(max_num_batched_tokens=16), (16, 16)),
        ("cpu", PagedOptions(max_num_seqs=3, max_num_batched_tokens=7), (3, 7)),
    ],
)
def test_limits_of_a_step(device: str, options: PagedOptions, limits: tuple[int, int]) -> None:
    assert step_limits(options, device) == limits


def test_limits_that_contradict_one_another_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"max_num_batched_tokens \(4\) must be at least max_num_seqs \(8\)"):
        step_limits(PagedOptions(max_num_seqs=8, max_num_batched_tokens=4), "cpu")
