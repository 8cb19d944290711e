"""Which weights are there twice, against what llama.cpp says it allocates, and as its sources choose on other CPUs."""

import os
import platform
import re
from dataclasses import replace
from pathlib import Path

import llama_cpp
import pytest
from load_tests.models import Shape, write_model

from pagemill.backends.gguf import repacking
from pagemill.backends.gguf.library import load_library
from pagemill.backends.gguf.metadata import TensorExtent, read_header
from pagemill.backends.gguf.model import load_model
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.backends.gguf.repacking import F16, MXFP4, Q2_K, Q4_0, Q4_K, Q5_K, Q8_0, copied_bytes

SHAPE = Shape(hidden=256, layers=2, heads=4, kv_heads=2, head_dim=64, feed_forward=512, vocab=1024)
MIB = 2**20
X86 = {"avx2"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """In Q8_0, by whether the embedding is the head too."""
    folder = tmp_path_factory.mktemp("sources")
    paths = {tied: folder / f"{tied}.gguf" for tied in (False, True)}
    for tied, path in paths.items():
        write_model(path, replace(SHAPE, tied=tied))
    return paths


def quantized(source: Path, target: Path, kind: str, output: int | None) -> Path:
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    options.allow_requantize = options.pure = True
    if output is not None:
        options.output_tensor_type = output
    assert llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), options) == 0
    return target


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize(
    ("kind", "tied", "output"),
    [(kind, tied, None) for kind in ("Q4_0", "Q4_K_M", "Q5_K_M", "Q2_K", "IQ4_NL", "Q8_0") for tied in (False, True)]
    + [("Q8_0", False, MXFP4)],
)
def test_as_llama_cpp_allocates(
    sources: dict[bool, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    tied: bool,
    output: int | None,
    mmap: bool,
) -> None:
    path = quantized(sources[tied], tmp_path / "q.gguf", kind, output)
    with caplog.at_level("DEBUG", logger="pagemill.backends.gguf.library"):
        load_model(load_library(), path, GGUFOptions(mmap=mmap)).close()
    sizes = re.findall(r"(?:CPU_REPACK|AMX) model buffer size = +([0-9.]+) MiB", caplog.text)
    allocated = sum(float(size) for size in sizes)
    tensors = read_header(path).tensors
    assert output is None or output in {tensor.kind for tensor in tensors}
    if mmap:
        assert copied_bytes(tensors, mapped=True) / MIB == pytest.approx(allocated, abs=0.02)
    else:  # those that are read are there once, in the new layout, but for an embedding that is the head too
        plain = float(re.findall(r" CPU model buffer size = +([0-9.]+) MiB", caplog.text)[0])
        whole = sum(tensor.num_bytes for tensor in tensors) + copied_bytes(tensors, mapped=False)
        assert whole / MIB == pytest.approx(plain + allocated, abs=0.05)


@pytest.mark.parametrize(
    ("machine", "features", "expected"),
    [
        ("x86_64", {"sse4_2"}, set()),
        ("x86_64", X86, {"q4_k", "experts"}),
        ("x86_64", X86 | {"avx512f"}, {"q4_k", "experts", "q2_k"}),
        ("x86_64", X86 | {"avx512f", "amx_int8"}, {"q4_k", "experts", "q2_k", "q8_0", "f16"}),
        ("aarch64", {"asimd"}, {"q4_k", "experts", "q8_0", "odd"}),
        ("arm64", set(), {"q4_k", "experts", "q8_0", "odd"}),
    ],
)
def test_each_cpu_has_its_own(
    monkeypatch: pytest.MonkeyPatch, machine: str, features: set[str], expected: set[str]
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(repacking, "cpu_features", lambda: frozenset(features))
    tensors = {
        "q4_k": TensorExtent("a.weight", Q4_K, (256, 64), 1),
        "experts": TensorExtent("blk.0.ffn_up_exps.weight", MXFP4, (256, 64, 8), 1),
        "q2_k": TensorExtent("b.weight", Q2_K, (256, 64), 1),
        "q8_0": TensorExtent("c.weight", Q8_0, (256, 64), 1),
        "f16": TensorExtent("d.weight", F16, (256, 64), 1),
        "odd": TensorExtent("e.weight", Q5_K, (256, 68), 1),
        "vector": TensorExtent("f.weight", Q4_K, (256,), 1),
        "looked up": TensorExtent("token_embd.weight", Q4_K, (256, 64), 1),
        "head": TensorExtent("output.weight", 0, (256, 64), 1),
    }
    head = tensors["head"]
    assert {name for name, tensor in tensors.items() if copied_bytes([tensor, head], mapped=True)} == expected


def test_an_embedding_that_is_the_head_too_is_copied_even_if_the_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(repacking, "cpu_features", lambda: frozenset(X86))
    tied = [TensorExtent("token_embd.weight", Q4_0, (256, 64), 5), TensorExtent("a.weight", Q4_0, (256, 64), 1)]
    assert copied_bytes(tied, mapped=False) == 5
    assert copied_bytes(tied, mapped=True) == 6
