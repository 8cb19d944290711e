"""The plain-torch attention against a dense float64 one."""

import dataclasses

import pytest
import torch

from pagemill.backends.paged.attention import torch_attention
from pagemill.backends.paged.attention.base import LayerKV
from pagemill.backends.paged.attention.torch_attention import TorchAttention
from support.attention_cases import Shape, make_case

MIXED = Shape(decodes=(1, 16, 37, 0, 0), prefills=((5, 5), (16, 48), (33, 50), (1, 9)))
VARIANTS = {
    "decodes only": dataclasses.replace(MIXED, prefills=()),
    "prefills only": dataclasses.replace(MIXED, decodes=()),
    "mixed": MIXED,
    "strided": dataclasses.replace(MIXED, strided=True),
    "window": dataclasses.replace(MIXED, sliding_window=7),
    "soft cap": dataclasses.replace(MIXED, soft_cap=2.0),
    "window and cap": dataclasses.replace(MIXED, sliding_window=20, soft_cap=5.0),
    "one head a KV head": dataclasses.replace(MIXED, num_heads=3, num_kv_heads=3),
    "one KV head": dataclasses.replace(MIXED, num_heads=5, num_kv_heads=1),
    "head_dim 80": dataclasses.replace(MIXED, head_dim=80),
    "block size 8": dataclasses.replace(MIXED, block_size=8),
    "block size 32": dataclasses.replace(MIXED, block_size=32),
}


@pytest.mark.parametrize("shape", VARIANTS.values(), ids=VARIANTS)
def test_it_gives_what_dense_attention_gives(shape: Shape) -> None:
    case = make_case(shape)
    output = TorchAttention()(case.spec, case.query, case.key, case.value, case.kv, case.batch)
    assert output.dtype == case.query.dtype
    assert output.is_contiguous()
    assert output.isfinite().all()
    torch.testing.assert_close(output[case.real_rows].double(), case.expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_right_to_its_rounding(dtype: torch.dtype) -> None:
    case = make_case(dataclasses.replace(MIXED, dtype=dtype))
    output = TorchAttention()(case.spec, case.query, case.key, case.value, case.kv, case.batch)
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(output[case.real_rows].double(), case.expected, rtol=rounding, atol=rounding)


def test_a_prefill_in_slices_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(MIXED)
    monkeypatch.setattr(torch_attention, "MAX_SCORES", 6 * 50 * 7)
    output = TorchAttention()(case.spec, case.query, case.key, case.value, case.kv, case.batch)
    torch.testing.assert_close(output[case.real_rows].double(), case.expected, rtol=1e-5, atol=1e-5)


def test_a_padded_row_writes_nothing() -> None:
    case = make_case(Shape(decodes=(0, 0, 0)))
    TorchAttention()(case.spec, case.query, case.key, case.value, case.kv, case.batch)
    assert case.kv.keys.isnan().all()
    assert case.kv.values.isnan().all()


def test_fp8_pages_hold_the_keys_and_values_rounded_to_fp8() -> None:
    case = make_case(MIXED)
    pages = LayerKV(*(states.to(torch.float8_e4m3fn) for states in case.kv))
    output = TorchAttention()(case.spec, case.query, case.key, case.value, pages, case.batch)
    rounded = make_case(MIXED)
    kv = LayerKV(*(states.to(torch.float8_e4m3fn).float() for states in rounded.kv))
    key, value = (states.to(torch.float8_e4m3fn).float() for states in (case.key, case.value))
    expected = TorchAttention()(rounded.spec, rounded.query, key, value, kv, rounded.batch)
    torch.testing.assert_close(output[case.real_rows], expected[case.real_rows])
