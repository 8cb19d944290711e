"""Which implementation a setting means."""

import pytest
import torch

from pagemill.backends.paged.attention import make_attention
from pagemill.backends.paged.kernel_choice import choose_kernels
from pagemill.backends.paged.ops import make_ops
from pagemill.backends.paged.options import AttentionBackend
from pagemill.errors import SettingsError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("kind", "device", "dtype", "kernels"),
    [
        ("auto", "cpu", "bfloat16", "native"),
        ("auto", "cpu", "float32", "native"),
        ("auto", "cpu", "float16", "torch"),
        ("auto", "cuda", "float16", "triton"),
        ("auto", "mps", "float16", "torch"),
        ("auto", "old_gpu", "float16", "torch"),
        ("torch", "cpu", "bfloat16", "torch"),
        ("torch", "cuda", "bfloat16", "torch"),
        ("cpu", "cpu", "bfloat16", "native"),
        ("triton", "cuda", "bfloat16", "triton"),
        ("varlen", "cuda", "bfloat16", "varlen"),
    ],
)
def test_each_kind_has_its_kernels(kind: AttentionBackend, device: str, dtype: str, kernels: str) -> None:
    assert choose_kernels(kind, device, dtype) == kernels


@pytest.mark.parametrize(
    ("kind", "device", "dtype"),
    [
        ("cpu", "cuda", "bfloat16"),
        ("cpu", "cpu", "float16"),
        ("triton", "cpu", "float32"),
        ("varlen", "cpu", "float32"),
    ],
)
def test_what_does_not_run_is_refused_by_name(kind: AttentionBackend, device: str, dtype: str) -> None:
    with pytest.raises(SettingsError, match=f"attention_backend={kind} "):
        choose_kernels(kind, device, dtype)


def test_the_factories_follow_the_choice() -> None:
    assert type(make_ops("auto", CPU, torch.bfloat16)).__name__ == "NativeOps"
    assert type(make_ops("torch", CPU, torch.bfloat16)).__name__ == "TorchOps"
    assert type(make_attention("auto", CPU, torch.bfloat16)).__name__ == "NativeAttention"
    assert type(make_attention("torch", CPU, torch.bfloat16)).__name__ == "TorchAttention"
