"""The Triton kernels, in Triton's interpreter, against a dense float64 attention.

The interpreter multiplies no bfloat16, so half precision here is float16; `tests/gpu` covers bfloat16.
"""

import dataclasses

import pytest
import torch

from pagemill.backends.paged.attention.base import AttentionSpec, LayerKV
from support.attention_cases import Case, Shape, make_case

pytest.importorskip("triton", reason="triton is made for Linux on x86-64 only")
from pagemill.backends.paged.attention.triton_attention import TritonAttention

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
MIXED = Shape(decodes=(1, 16, 130, 0, 201, 0), prefills=((5, 5), (16, 48), (40, 170), (1, 9)))
VARIANTS = {
    "mixed": MIXED,
    "decodes only": dataclasses.replace(MIXED, prefills=()),
    "prefills only": dataclasses.replace(MIXED, decodes=()),
    "one prefill": Shape(prefills=((77, 77),)),
    "strided": dataclasses.replace(MIXED, strided=True),
    "window": dataclasses.replace(MIXED, sliding_window=7),
    "window of several tiles": dataclasses.replace(MIXED, sliding_window=150),
    "soft cap": dataclasses.replace(MIXED, soft_cap=2.0),
    "window and cap": dataclasses.replace(MIXED, sliding_window=20, soft_cap=5.0),
    "one head a KV head": dataclasses.replace(MIXED, num_heads=3, num_kv_heads=3),
    "eight heads a KV head": dataclasses.replace(MIXED, num_heads=8, num_kv_heads=1),
    "more heads than a tile has rows": Shape(decodes=(40,), prefills=((3, 20),), num_heads=20, num_kv_heads=1),
    "head_dim 80": dataclasses.replace(MIXED, head_dim=80),
    "head_dim 128": dataclasses.replace(MIXED, head_dim=128),
    "head_dim 256": Shape(decodes=(70, 3), prefills=((20, 50),), head_dim=256, num_heads=2, num_kv_heads=1),
    "block size 32": dataclasses.replace(MIXED, block_size=32),
    "block size 24": dataclasses.replace(MIXED, block_size=24),
}


def attend(case: Case, kv: LayerKV | None = None, *, decode_programs: int = 16) -> torch.Tensor:
    attention = TritonAttention(CPU, decode_programs=decode_programs)
    return attention(case.spec, case.query, case.key, case.value, kv or case.kv, case.batch)


@pytest.mark.parametrize("shape", VARIANTS.values(), ids=VARIANTS)
def test_it_gives_what_dense_attention_gives(shape: Shape) -> None:
    case = make_case(shape)
    output = attend(case)
    assert output.dtype == case.query.dtype
    assert output.is_contiguous()
    torch.testing.assert_close(output[case.real_rows].double(), case.expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("decode_programs", [1, 32, 128])
@pytest.mark.parametrize("sliding_window", [None, 100])
def test_the_answer_is_the_same_in_any_number_of_splits(decode_programs: int, sliding_window: int | None) -> None:
    case = make_case(Shape(decodes=(300, 1, 64, 0), sliding_window=sliding_window))
    output = attend(case, decode_programs=decode_programs)
    torch.testing.assert_close(output[case.real_rows].double(), case.expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("decode_programs", [1, 64])
def test_a_padded_row_gives_zeros_and_writes_nothing(decode_programs: int) -> None:
    case = make_case(Shape(decodes=(0, 0, 0)))
    assert not attend(case, decode_programs=decode_programs).any()
    assert case.kv.keys.isnan().all()
    assert case.kv.values.isnan().all()


def test_float16_is_right_to_its_rounding() -> None:
    case = make_case(dataclasses.replace(MIXED, dtype=torch.float16, head_dim=128))
    rounding = torch.finfo(torch.float16).eps
    torch.testing.assert_close(attend(case)[case.real_rows].double(), case.expected, rtol=rounding, atol=rounding)


def test_keys_and_values_land_in_their_slots_and_nowhere_else() -> None:
    case = make_case(dataclasses.replace(MIXED, strided=True, block_size=32))
    before = [pages.clone() for pages in case.kv]
    attend(case)
    written = case.batch.slots[case.real_rows]
    for pages, old, states in zip(case.kv, before, (case.key, case.value), strict=True):
        old[written // 32, :, written % 32] = states[case.real_rows]
        torch.testing.assert_close(pages, old, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_fp8_pages_are_read_as_the_numbers_that_they_hold(dtype: torch.dtype) -> None:
    # The step's own keys and values are exact in fp8: the interpreter does not round to fp8 as a GPU does.
    case = make_case(dataclasses.replace(MIXED, head_dim=32))
    for states in (case.key, case.value):
        states.copy_((states * 2).round().clamp(-7, 7) / 2)
    rounded = LayerKV(*(pages.to(dtype).float() for pages in case.kv))
    expected = attend(case, rounded)
    fp8 = LayerKV(*(pages.to(dtype) for pages in case.kv))
    torch.testing.assert_close(attend(case, fp8)[case.real_rows], expected[case.real_rows])
    written = case.batch.slots[case.real_rows]
    stored = fp8.keys.float()[written // 16, :, written % 16]
    torch.testing.assert_close(stored, case.key[case.real_rows], rtol=0, atol=0)


def test_what_fp8_can_not_hold_becomes_the_largest_number_that_it_can() -> None:
    case = make_case(Shape(decodes=(1,), head_dim=32))
    case.key.fill_(1000.0)
    case.value.fill_(-1000.0)
    fp8 = LayerKV(*(pages.to(torch.float8_e4m3fn) for pages in case.kv))
    attend(case, fp8)
    block = int(case.batch.slots[0]) // 16
    assert (fp8.keys[block, :, 0].float() == 448).all()
    assert (fp8.values[block, :, 0].float() == -448).all()


def test_a_batch_padded_for_a_graph_is_split_as_it_is_unpadded() -> None:
    attention = TritonAttention(CPU, decode_programs=264)
    spec = AttentionSpec(1.0)
    for num_decodes, padded in ((1, 1), (3, 4), (9, 16), (17, 24), (25, 32)):
        assert attention.num_splits(spec, num_decodes, 8, 64) == attention.num_splits(spec, padded, 8, 64)
    assert [attention.num_splits(spec, count, 8, 64) for count in (1, 8, 64)] == [32, 4, 1]


@pytest.mark.parametrize("num_kv_heads", [1, 3, 8, 300])
def test_the_scratch_memory_of_the_first_decode_holds_every_other(num_kv_heads: int) -> None:
    """A graph has its address, so it may never grow."""
    attention = TritonAttention(CPU, decode_programs=264)
    for num_decodes in range(1, 300):
        splits = attention.num_splits(AttentionSpec(1.0), num_decodes, num_kv_heads, 64)
        assert splits == 1 or num_decodes * num_kv_heads * splits <= 264


def test_a_window_is_split_into_no_more_parts_than_it_has_tiles() -> None:
    attention = TritonAttention(CPU, decode_programs=264)
    assert attention.num_splits(AttentionSpec(1.0, sliding_window=200), 1, 2, 64) == 4
