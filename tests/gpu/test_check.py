"""The checks for a GPU, rehearsed on the CPU: what they say is right there too, only slow."""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gpu import check
from gpu.bench import Bench, compute_again, measure_ceilings, time_by_clock
from gpu.decode_runs import DecodeSpeed
from gpu.kernel_checks import (
    KernelCheck,
    check_attention,
    check_encoder_attention,
    check_fp8_attention,
    check_ops,
)
from gpu.random_decoders import SHAPES, TINY, decoder_config, random_decoder
from gpu.roofline import Ceilings, DecodeWork
from pagemill.backends.paged.attention.base import AttentionBatch, AttentionSpec, LayerKV
from pagemill.backends.paged.attention.torch_attention import TorchAttention
from pagemill.backends.paged.ops.torch_ops import TorchOps
from pagemill.errors import ModelLoadError
from support.attention_cases import Shape

BENCH = Bench(torch.device("cpu"), torch.bfloat16, TorchAttention(), TorchOps(), time_by_clock, lambda: compute_again)
SMALL = decoder_config(hidden=64, intermediate=96, layers=2, heads=4, kv_heads=2, head_dim=16, vocab=300, qk_norm=False)
MIXED = Shape(decodes=(1, 0, 40, 3, 0), prefills=((5, 5), (8, 30)))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads wait for one another longer than so little work takes, the more on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_without_cuda_it_says_so_and_does_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check.main(["--output", str(tmp_path)]) == 0
    assert "no CUDA device" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_sections_and_sizes_can_be_chosen() -> None:
    options = check.parse(["--only", "graphs", "decode", "--sizes", "8B"])
    assert options == argparse.Namespace(only=["graphs", "decode"], sizes=["8B"], output=check.RESULTS)
    assert check.parse([]).only == list(check.SECTIONS)
    with pytest.raises(SystemExit):
        check.parse(["--sizes", "70B"])


@pytest.mark.parametrize(("size", "billions"), [("0.6B", 0.596), ("1.7B", 1.72), ("8B", 8.03 - 0.525)])
def test_the_shapes_have_the_weights_of_the_models_they_are_named_after(size: str, billions: float) -> None:
    """The norms apart, and Llama's embedding, which is not its output projection."""
    assert DecodeWork(SHAPES[size], 1, 1).num_weights == pytest.approx(billions * 1e9, rel=0.005)


def test_a_step_takes_as_long_as_the_slower_of_its_bytes_and_its_arithmetic() -> None:
    work = DecodeWork(SHAPES["8B"], 64, 1024)
    assert work.kv_bytes == 64 * 1024 * 32 * 2 * 8 * 128 * 2
    assert work.num_bytes == work.num_weights * 2 + work.kv_bytes
    assert work.floor_s(Ceilings(3e12, 8e14)) == pytest.approx(work.num_bytes / 3e12)
    assert work.floor_s(Ceilings(3e12, 1e12)) == pytest.approx(work.flops / 1e12)
    assert DecodeSpeed(1, 1, 2.0, 0.5, 0.25, 1.0).fraction == 0.5


def test_the_kernel_checks_pass_for_the_plain_implementation() -> None:
    checks = [*check_attention(BENCH, MIXED), *check_fp8_attention(BENCH, MIXED)]
    checks += [*check_ops(BENCH), *check_encoder_attention(BENCH)]
    assert len(checks) > 60
    assert [check.name for check in checks if not check.passed] == []


def test_a_wrong_kernel_does_not_pass() -> None:
    def twisted(
        spec: AttentionSpec, query: Tensor, key: Tensor, value: Tensor, kv: LayerKV, batch: AttentionBatch
    ) -> Tensor:
        output = TorchAttention()(spec, query, key, value, kv, batch)
        output[0] *= 1.5
        return output

    wrong = dataclasses.replace(BENCH, attention=twisted)
    assert not any(check.passed for check in check_attention(wrong, MIXED))
    assert not KernelCheck("nothing", float("nan"), 1.0).passed


@pytest.mark.parametrize(("dtype", "count"), [(torch.float32, 5), (torch.bfloat16, 8)])
def test_graphs_on_and_off_are_compared_token_for_token(dtype: torch.dtype, count: int) -> None:
    (row,) = check.graph_rows(BENCH, dtype, count, steps=4)
    assert row.passed is True
    assert row.value == f"{count * 4} of {count * 4} tokens"


def test_a_random_decoder_says_more_than_one_thing() -> None:
    model = random_decoder(TINY, BENCH, torch.float32, 64)
    logits = model.logits(torch.randn(20, TINY.hidden_size))
    assert len(set(logits.argmax(-1).tolist())) > 10
    assert 0.5 < float(logits.std()) < 2


def test_every_row_of_a_model_is_measured() -> None:
    ceilings = measure_ceilings(BENCH, copy_bytes=1 << 20, size=64)
    rows = list(
        check.model_rows(
            BENCH,
            "small",
            SMALL,
            ceilings,
            ("decode", "engine"),
            context_len=20,
            max_batch=2,
            long_context_len=48,
            clients=(2,),
        )
    )
    assert [row.name for row in rows] == [
        "small, batch 1, context 20",
        "small, batch 2, context 20",
        "small, attention alone, batch 1, context 20",
        "small, attention alone, batch 2, context 20",
        "small, attention alone, batch 1, context 48",
        "small, prefill attention alone",
        "small, 2 clients, 128 in, 128 out",
    ]
    assert all(value > 0 for row in rows for value in (row.figures or {}).values())


def test_what_breaks_off_is_a_failure_and_what_torch_lacks_is_not() -> None:
    def broken() -> Iterator[check.Row]:
        yield check.Row("kernels", "first", "fine", True)
        raise RuntimeError("an illegal memory access")

    def missing() -> list[check.Row]:
        raise ModelLoadError("needs torch 2.12")

    rows = list(check.guarded("kernels", "attention", broken))
    assert [row.passed for row in rows] == [True, False]
    assert "an illegal memory access" in rows[1].value
    (skipped,) = check.guarded("kernels", "varlen", missing)
    assert (skipped.passed, skipped.value) == (None, "skipped: needs torch 2.12")


def test_the_json_holds_every_row(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="triton is made for Linux on x86-64 only")
    rows = [check.check_row(KernelCheck("rotate", 1e-3, 1e-2)), check.ceilings_row(Ceilings(3e12, 8e14))]
    check.save(tmp_path / "new" / "gpu.json", rows)
    record = json.loads((tmp_path / "new" / "gpu.json").read_text())
    assert [row["figures"] for row in record["rows"]] == [
        {"error": 1e-3, "limit": 1e-2},
        {"copy_bytes_per_s": 3e12, "matmul_flops_per_s": 8e14},
    ]
    assert record["environment"]["torch"] == torch.__version__
    assert check.line(rows[0]).startswith("ok   kernels   rotate ")
