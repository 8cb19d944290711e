"""Where a model runs, and in which types."""

import pytest
import torch

from pagemill.backends.paged.device import (
    choose_device,
    choose_dtype,
    choose_kv_dtype,
    free_gpu_bytes,
    kernels_device,
)
from pagemill.errors import ModelLoadError

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def test_auto_is_the_gpu_if_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == CPU


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="device is cuda, but torch finds no GPU"):
        choose_device("cuda")


def test_the_checkpoints_type_is_kept_but_float16_on_a_cpu() -> None:
    assert choose_dtype("auto", torch.bfloat16, CPU) is torch.bfloat16
    assert choose_dtype("auto", torch.float16, CPU) is torch.bfloat16
    assert choose_dtype("auto", torch.float16, CUDA) is torch.float16
    assert choose_dtype("float32", torch.bfloat16, CPU) is torch.float32


def test_a_gpu_older_than_ampere_computes_in_float16_by_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    assert kernels_device(CUDA) == "old_gpu"
    assert choose_dtype("auto", torch.bfloat16, CUDA) is torch.float16
    assert choose_dtype("float32", torch.bfloat16, CUDA) is torch.float32
    with pytest.raises(
        ModelLoadError, match=r"dtype bfloat16 needs compute capability \(8, 0\), Tesla T4 has \(7, 5\)"
    ):
        choose_dtype("bfloat16", torch.bfloat16, CUDA)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert kernels_device(CUDA) == "cuda"
    assert choose_dtype("auto", torch.bfloat16, CUDA) is torch.bfloat16


def test_what_torch_keeps_for_reuse_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 70)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 50)
    assert free_gpu_bytes(CUDA) == 120


def test_types_of_the_kv_cache_that_this_backend_or_device_lacks_are_refused_by_name() -> None:
    assert choose_kv_dtype("auto", torch.bfloat16, CPU) is torch.bfloat16
    with pytest.raises(ModelLoadError, match="kv_cache_dtype q8_0 is the gguf backend's"):
        choose_kv_dtype("q8_0", torch.bfloat16, CPU)
    with pytest.raises(ModelLoadError, match="kv_cache_dtype fp8 needs a GPU"):
        choose_kv_dtype("fp8", torch.bfloat16, CPU)
