"""All that wants a GPU, in one command: are the kernels right, do CUDA graphs change anything, how fast is a step.

    PYTHONPATH=core:tests python -m gpu.check [--only kernels graphs ceilings decode engine] [--sizes 0.6B 1.7B 8B]

It needs torch, triton and numpy (the engine section what the paged backend needs), no network and no pytest; 8B takes
30 GB of the GPU's memory. It prints a table and writes JSON. Where there is no GPU it says so and ends. The exit code
is 1 if a check failed.
"""

import argparse
import asyncio
import functools
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gpu.bench import Bench, cuda_bench, measure_ceilings
from gpu.decode_runs import Sequences, greedy_tokens, time_attention, time_decode, time_prefill_attention
from gpu.kernel_checks import (
    KernelCheck,
    check_attention,
    check_encoder_attention,
    check_fp8_attention,
    check_ops,
    check_varlen,
)
from gpu.random_decoders import SHAPES, TINY, random_decoder
from gpu.roofline import Ceilings
from pagemill.backends.paged.config import DecoderConfig
from pagemill.errors import ModelLoadError

RESULTS = Path(__file__).parents[2] / "load_tests" / "results"
SECTIONS = ("kernels", "graphs", "ceilings", "decode", "engine")
CONTEXT_LEN = 1024  # of each sequence in the timed steps
MAX_BATCH = 64
LONG_CONTEXT_LEN = 32768  # of the one sequence whose attention is timed alone


class Row(NamedTuple):
    """One line of the table. `passed` is None for what is only measured."""

    section: str
    name: str
    value: str
    passed: bool | None = None
    figures: dict[str, Any] | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if not torch.cuda.is_available():
        print("There is no CUDA device here, so there is nothing to check. See tests/gpu/check.py for what this does.")
        return 0
    rows: list[Row] = []
    path = options.output / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}-gpu.json"
    for row in run(cuda_bench(), options.only, options.sizes):
        rows.append(row)
        print(line(row), flush=True)
        save(path, rows)  # each time: what comes later may hang or kill the process
    failed = [row for row in rows if row.passed is False]
    print(f"\n{len(rows) - len(failed)} of {len(rows)} rows without a failure; {path}")
    return 1 if failed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gpu.check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="the sections to run")
    parser.add_argument("--sizes", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="the models to time")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the folder for the JSON (default: %(default)s)")
    return parser.parse_args(arguments)


def run(bench: Bench, sections: Sequence[str], sizes: Sequence[str]) -> Iterable[Row]:
    """The sections' rows, as they come. A section that breaks off is a failed row, and the next one goes on."""
    if "kernels" in sections:
        for checks in (check_ops, check_attention, check_fp8_attention, check_varlen, check_encoder_attention):
            yield from guarded("kernels", checks.__name__, functools.partial(check_rows, bench, checks))
    if "graphs" in sections:
        for dtype, count in ((bench.dtype, 8), (torch.float32, 5)):
            yield from guarded("graphs", f"{dtype}", functools.partial(graph_rows, bench, dtype, count))
    if {"ceilings", "decode", "engine"} & set(sections):
        yield from guarded("ceilings", "all that is timed", lambda: timed_rows(bench, sections, sizes))


def timed_rows(bench: Bench, sections: Sequence[str], sizes: Sequence[str]) -> Iterable[Row]:
    ceilings = measure_ceilings(bench)
    yield ceilings_row(ceilings)
    for size in sizes if {"decode", "engine"} & set(sections) else ():
        rows = functools.partial(model_rows, bench, size, SHAPES[size], ceilings, sections)
        yield from guarded("decode", size, rows)
        torch.cuda.empty_cache()


def guarded(section: str, name: str, rows: Callable[[], Iterable[Row]]) -> Iterable[Row]:
    try:
        yield from rows()
    except ModelLoadError as error:  # this torch has no such kernel
        yield Row(section, name, f"skipped: {error}")
    except Exception as error:
        traceback.print_exc()
        yield Row(section, name, f"broke off: {type(error).__name__}: {error}", False)


def check_rows(bench: Bench, checks: Callable[[Bench], Iterable[KernelCheck]]) -> Iterable[Row]:
    return map(check_row, checks(bench))


def check_row(check: KernelCheck) -> Row:
    figures = {"error": check.error, "limit": check.limit}
    return Row("kernels", check.name, f"error {check.error:.1e} of {check.limit:.0e}", check.passed, figures)


def ceilings_row(ceilings: Ceilings) -> Row:
    copy, matmul = ceilings.copy_bytes_per_s / 1e12, ceilings.matmul_flops_per_s / 1e12
    return Row("ceilings", "measured", f"copy {copy:.2f} TB/s, matmul {matmul:.0f} TFLOP/s", None, ceilings._asdict())


def graph_rows(bench: Bench, dtype: torch.dtype, count: int, *, steps: int = 64) -> Iterable[Row]:
    """In half precision a batch of a graph's own size, which computes the very same; in float32 a padded one."""
    model = random_decoder(TINY, bench, dtype, 512)
    runs = [
        greedy_tokens(
            model, Sequences(bench, TINY, dtype, count, 512), prompt_len=37, steps=steps, use_graphs=use_graphs
        )
        for use_graphs in (False, True)
    ]
    same = int((runs[0] == runs[1]).sum())
    name = f"on = off, {count} sequences, {str(dtype).removeprefix('torch.')}"
    yield Row("graphs", name, f"{same} of {runs[0].numel()} tokens", same == runs[0].numel())


def model_rows(
    bench: Bench,
    size: str,
    config: DecoderConfig,
    ceilings: Ceilings,
    sections: Sequence[str],
    *,
    context_len: int = CONTEXT_LEN,
    max_batch: int = MAX_BATCH,
    long_context_len: int = LONG_CONTEXT_LEN,
    clients: Sequence[int] = (1, 16, 64),
) -> Iterable[Row]:
    model = random_decoder(config, bench, bench.dtype, max(context_len + 16, 1024))
    if "decode" in sections:
        sequences = Sequences(bench, config, bench.dtype, max_batch, context_len + 16)
        sequences.fill()
        for batch_size in (1, max_batch):
            speed = time_decode(model, sequences, batch_size, context_len, ceilings)
            value = (
                f"{speed.graph_s * 1e3:.3f} ms, {speed.fraction:.0%} of the roofline, "
                f"{speed.bytes_per_s / 1e12:.2f} TB/s; without graphs {speed.eager_s * 1e3:.3f} ms"
            )
            figures = {**speed._asdict(), "fraction": speed.fraction}
            yield Row("decode", f"{size}, batch {batch_size}, context {context_len}", value, None, figures)
        yield from attention_rows(bench, size, config, ceilings, sequences, context_len, max_batch, long_context_len)
        del sequences
    if "engine" in sections:
        from gpu.engine_runs import make_backend, output_tokens_per_s  # imports the whole backend

        for num_clients in clients:
            backend = make_backend(model, bench, max_num_seqs=num_clients, max_model_len=512)
            rate = asyncio.run(output_tokens_per_s(backend, num_clients))
            figures = {"output_tokens_per_s": rate}
            yield Row(
                "engine", f"{size}, {num_clients} clients, 128 in, 128 out", f"{rate:.0f} tokens/s", None, figures
            )


def attention_rows(
    bench: Bench,
    size: str,
    config: DecoderConfig,
    ceilings: Ceilings,
    sequences: Sequences,
    context_len: int,
    max_batch: int,
    long_context_len: int,
) -> Iterable[Row]:
    alone = Sequences(bench, config, bench.dtype, 1, long_context_len)
    alone.fill()
    for which, batch_size, length in (
        (sequences, 1, context_len),
        (sequences, max_batch, context_len),
        (alone, 1, long_context_len),
    ):
        speed = time_attention(config, which, batch_size, length)
        fraction = speed.bytes_per_s / ceilings.copy_bytes_per_s
        value = f"{speed.layer_s * 1e6:.1f} us a layer, {fraction:.0%} of copy bandwidth"
        name = f"{size}, attention alone, batch {batch_size}, context {length}"
        yield Row("decode", name, value, None, {**speed._asdict(), "fraction": fraction})
    rate = time_prefill_attention(config, alone, min(8192, long_context_len))
    fraction = rate / ceilings.matmul_flops_per_s
    value = f"{rate / 1e12:.0f} TFLOP/s, {fraction:.0%} of the matmul peak"
    yield Row("decode", f"{size}, prefill attention alone", value, None, {"flops_per_s": rate, "fraction": fraction})


def line(row: Row) -> str:
    verdict = {True: "ok  ", False: "FAIL", None: "    "}[row.passed]
    return f"{verdict} {row.section:9} {row.name:58} {row.value}"


def save(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"name": "gpu", "environment": environment(), "rows": [row._asdict() for row in rows]}
    path.write_text(json.dumps(record, indent=1) + "\n")


def environment() -> dict[str, object]:
    import triton

    found: dict[str, object] = {
        "torch": torch.__version__,
        "triton": triton.__version__,
        "python": sys.version.split()[0],
    }
    if torch.cuda.is_available():
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return found


if __name__ == "__main__":
    sys.exit(main())
