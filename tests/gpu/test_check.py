"""The checks for a GPU, rehearsed on the CPU: what they say is right there too, only slow."""

import dataclasses
import functools
import json
import sys
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
from gpu.part_process import Row, rows_of_process
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
    assert (options.only, options.sizes, options.output) == (["graphs", "decode"], ["8B"], check.RESULTS)
    assert check.parse([]).only == list(check.SECTIONS)
    with pytest.raises(SystemExit):
        check.parse(["--sizes", "70B"])


def test_right_answers_come_before_fast_ones_and_ceilings_before_what_is_held_against_them() -> None:
    chosen = check.parts(check.SECTIONS, ["0.6B", "8B"])
    assert [part.section for part in chosen] == [
        *("kernels",) * 5, *("graphs",) * 2, "ceilings", "engine", "decode", "engine", "decode"
    ]  # fmt: skip
    assert check.parts(["decode"], ["8B"]) == [("ceilings", "measured"), ("decode", "8B")]


def test_a_part_gets_what_time_is_left_and_the_ceilings_and_what_is_not_run_is_named() -> None:
    ran: list[tuple[check.Part, float, Ceilings | None]] = []

    def rows_of(part: check.Part, limit_s: float, ceilings: Ceilings | None) -> list[Row]:
        ran.append((part, limit_s, ceilings))
        figures = {"copy_bytes_per_s": 3e12, "matmul_flops_per_s": 8e14} if part.section == "ceilings" else None
        return [Row(*part, "fine", True, figures)]

    chosen = [check.Part("decode", "0.6B"), check.Part("ceilings", "measured"), check.Part("decode", "8B")]
    rows = list(check.run(chosen, rows_of, 1000.0))
    assert [row.value for row in rows] == ["not run: the ceilings are not known", "fine", "fine"]
    assert [part for part, *_ in ran] == chosen[1:]
    assert ran[1][1:] == (check.PART_LIMIT_S, Ceilings(3e12, 8e14))
    assert [row.value for row in check.run(chosen, rows_of, 0.0)] == ["not run: no time was left"] * 3


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
    def broken() -> Iterator[Row]:
        yield Row("kernels", "first", "fine", True)
        raise RuntimeError("an illegal memory access")

    def missing() -> list[Row]:
        raise ModelLoadError("needs torch 2.12")

    rows = list(check.guarded("kernels", "attention", broken))
    assert [row.passed for row in rows] == [True, False]
    assert "an illegal memory access" in rows[1].value
    (skipped,) = check.guarded("kernels", "varlen", missing)
    assert (skipped.passed, skipped.value) == (None, "skipped: needs torch 2.12")


@pytest.mark.parametrize(("section", "name"), [("kernels", "check_ops"), ("graphs", "float32"), ("kernels", "nothing")])
def test_a_part_writes_its_rows_and_what_broke_it_off(
    section: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(check, "cuda_bench", lambda: BENCH)
    monkeypatch.setattr(check, "graph_rows", functools.partial(check.graph_rows, steps=2))
    assert check.main(["--part", section, name]) == 0
    rows = [Row(**json.loads(line)) for line in capsys.readouterr().out.splitlines()]
    assert rows
    assert all(row.section == section for row in rows)
    assert {row.passed for row in rows} == {name != "nothing"}


def rows_of_program(program: str, limit_s: float = 60.0) -> list[Row]:
    return list(rows_of_process([sys.executable, "-c", program], "graphs", "float32", limit_s=limit_s))


ONE_ROW = "import json, os, sys, time; print(json.dumps({'section': 'a', 'name': 'b', 'value': 'c'}), flush=True); "


def test_a_part_s_rows_are_kept_though_it_crashes_and_the_crash_is_a_failure() -> None:
    first, second = rows_of_program(ONE_ROW + "print('illegal access', file=sys.stderr, flush=True); os.abort()")
    assert first == Row("a", "b", "c")
    assert (second.section, second.name, second.passed) == ("graphs", "float32", False)
    assert second.value.startswith("broke off: exit code -6 | illegal access")


def test_a_part_that_hangs_is_ended_and_one_that_ends_well_adds_nothing() -> None:
    rows = rows_of_program("import time; time.sleep(600)", limit_s=0.5)
    assert [row.value for row in rows] == ["broke off: took longer than 0.5 s"]
    assert rows_of_program(ONE_ROW) == [Row("a", "b", "c")]


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
