"""The C attention against a dense float64 one: every feature, in both of its dtypes, mixed batches of random sizes."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pagemill.backends.paged.attention import native_attention
from pagemill.backends.paged.attention.native_attention import NativeAttention
from support.attention_cases import Case, Shape, make_case

MIXED = Shape(decodes=(1, 16, 37, 0, 150, 0), prefills=((5, 5), (16, 48), (33, 50), (1, 9), (70, 200)))
VARIANTS = {
    "decodes only": dataclasses.replace(MIXED, prefills=()),
    "prefills only": dataclasses.replace(MIXED, decodes=()),
    "mixed": MIXED,
    "strided": dataclasses.replace(MIXED, strided=True),
    "window": dataclasses.replace(MIXED, sliding_window=7),
    "soft cap": dataclasses.replace(MIXED, soft_cap=2.0),
    "window and cap": dataclasses.replace(MIXED, sliding_window=100, soft_cap=5.0),
    "one head a KV head": dataclasses.replace(MIXED, num_heads=3, num_kv_heads=3),
    "one KV head for very many": dataclasses.replace(MIXED, num_heads=101, num_kv_heads=1, head_dim=8),
    "head_dim 20, for plain torch": dataclasses.replace(MIXED, head_dim=20),
    "head_dim 80": dataclasses.replace(MIXED, head_dim=80),
    "head_dim 128": dataclasses.replace(MIXED, head_dim=128),
    "head_dim 256": dataclasses.replace(MIXED, head_dim=256),
    "block size 8": dataclasses.replace(MIXED, block_size=8),
    "block size 32": dataclasses.replace(MIXED, block_size=32),
    "block size 12": dataclasses.replace(MIXED, block_size=12),
    "block size 128, whose begin a window hides": dataclasses.replace(MIXED, block_size=128, sliding_window=5),
    "four heads a KV head": dataclasses.replace(MIXED, num_heads=8),
    "five heads a KV head, head_dim 128": dataclasses.replace(MIXED, num_heads=10, head_dim=128, soft_cap=5.0),
    "eight heads a KV head, block size 8": dataclasses.replace(MIXED, num_heads=16, block_size=8),
    "nine heads a KV head": dataclasses.replace(MIXED, num_heads=9, num_kv_heads=1),
    "decodes whose last block has every size": Shape(decodes=tuple(range(1, 130, 3))),
    "one long decode": Shape(decodes=(1000,), num_heads=2, num_kv_heads=1),
    "two decodes and a longer prefill": Shape(decodes=(700, 33), prefills=((3, 900),), sliding_window=300),
}
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: torch.finfo(torch.bfloat16).eps}


@pytest.fixture(autouse=True)
def num_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """One, for threads of a busy machine wait for each other; a test that wants more says so."""
    before, wanted = torch.get_num_threads(), getattr(request, "param", 1)
    torch.set_num_threads(wanted)
    yield wanted
    torch.set_num_threads(before)


def check(case: Case, attention: NativeAttention) -> None:
    output = attention(case.spec, case.query, case.key, case.value, case.kv, case.batch)
    assert output.dtype == case.query.dtype
    assert output.is_contiguous()
    assert output.isfinite().all()
    tolerance = TOLERANCE[output.dtype]
    torch.testing.assert_close(output[case.real_rows].double(), case.expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("num_threads", [3], indirect=True)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_several_threads_share_a_step(dtype: torch.dtype, num_threads: int) -> None:
    attention = NativeAttention(dtype)
    check(make_case(dataclasses.replace(MIXED, dtype=dtype)), attention)
    check(make_case(Shape(decodes=(900,), dtype=dtype)), attention)
    check(make_case(Shape(decodes=tuple(range(100, 180, 5)), dtype=dtype)), attention)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", VARIANTS.values(), ids=VARIANTS)
def test_it_gives_what_dense_attention_gives(shape: Shape, dtype: torch.dtype) -> None:
    check(make_case(dataclasses.replace(shape, dtype=dtype)), NativeAttention(dtype))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_mixture_gives_what_dense_attention_gives(data: st.DataObject) -> None:
    query_lens = st.integers(1, 80).flatmap(lambda count: st.tuples(st.just(count), st.integers(count, count + 150)))
    group, kv_heads = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 3))
    shape = Shape(
        decodes=tuple(data.draw(st.lists(st.integers(0, 300), max_size=5))),
        prefills=tuple(data.draw(st.lists(query_lens, min_size=1, max_size=3))),
        num_heads=group * kv_heads,
        num_kv_heads=kv_heads,
        head_dim=data.draw(st.sampled_from([8, 24, 64, 128])),
        block_size=data.draw(st.sampled_from([8, 16, 32])),
        dtype=data.draw(st.sampled_from([torch.float32, torch.bfloat16])),
        sliding_window=data.draw(st.none() | st.integers(1, 200)),
        soft_cap=data.draw(st.none() | st.just(3.0)),
        strided=data.draw(st.booleans()),
    )
    check(make_case(shape, seed=data.draw(st.integers(0, 1000))), NativeAttention(shape.dtype))


@pytest.mark.parametrize("window", [None, 70, 300])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_a_context_split_over_tasks_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, window: int | None
) -> None:
    monkeypatch.setattr(native_attention, "MIN_SPLIT", 64)
    monkeypatch.setattr(native_attention, "TASKS_PER_THREAD", 40)
    shape = Shape(decodes=(500, 1, 64, 65, 0), prefills=((9, 80),), dtype=dtype, sliding_window=window)
    check(make_case(shape), NativeAttention(dtype))


def test_layers_of_one_step_share_its_layout() -> None:
    attention, case = NativeAttention(torch.float32), make_case(MIXED)
    for shift in (0.0, 1.0, -2.0):
        layer = make_case(MIXED)
        shifted = dataclasses.replace(
            case, value=layer.value + shift, kv=layer.kv._replace(values=layer.kv.values + shift)
        )
        check(dataclasses.replace(shifted, expected=case.expected + shift), attention)


def test_one_instance_serves_steps_of_all_sizes() -> None:
    attention = NativeAttention(torch.float32)
    for decodes in ((3,), (300, 20, 40, 50, 60, 70, 80, 90), (1,)):
        check(make_case(Shape(decodes=decodes)), attention)
        check(make_case(Shape(decodes=decodes, num_heads=8, num_kv_heads=8, head_dim=32)), attention)


def test_a_padded_row_writes_nothing() -> None:
    case = make_case(Shape(decodes=(0, 0, 0)))
    check(case, NativeAttention(torch.float32))
    assert case.kv.keys.isnan().all()
    assert case.kv.values.isnan().all()


def test_pages_of_another_dtype_are_refused_by_name() -> None:
    case = make_case(MIXED)
    pages = case.kv._replace(keys=case.kv.keys.to(torch.float8_e4m3fn))
    with pytest.raises(TypeError, match="float8_e4m3fn"):
        NativeAttention(torch.float32)(case.spec, case.query, case.key, case.value, pages, case.batch)


def test_an_odd_block_size_is_refused() -> None:
    case = make_case(dataclasses.replace(MIXED, block_size=7))
    with pytest.raises(ValueError, match="block_size 7"):
        NativeAttention(torch.float32)(case.spec, case.query, case.key, case.value, case.kv, case.batch)
