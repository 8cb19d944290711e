"""All that wants a GPU, in one command: are the kernels right, do CUDA graphs change anything, how fast is a step.

    PYTHONPATH=core:tests python -m gpu.check [--only kernels graphs ceilings decode engine] [--sizes 0.6B 1.7B 8B]

It needs torch, triton and numpy (the engine section what the paged backend needs), no network and no pytest; 8B takes
30 GB of the GPU's memory. It prints a table and writes JSON after each row. Each part runs in a process of its own, the
most telling first, and none begins that the time for all would cut off: what was left is named, for a second run with
`--only`. Where there is no GPU it says so and ends. The exit code is 1 if a check failed.
"""

import argparse
import asyncio
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

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
from gpu.part_process import Row, rows_of_process, write_row
from gpu.random_decoders import SHAPES, TINY, random_decoder
from gpu.roofline import Ceilings
from pagemill.backends.paged.config import DecoderConfig
from pagemill.errors import ModelLoadError

RESULTS = Path(__file__).parents[2] / "load_tests" / "results"
SECTIONS = ("kernels", "graphs", "ceilings", "decode", "engine")
KERNEL_CHECKS = {
    check.__name__: check
    for check in (check_ops, check_attention, check_fp8_attention, check_varlen, check_encoder_attention)
}
GRAPH_DTYPES = {"bfloat16": (torch.bfloat16, 8), "float32": (torch.float32, 5)}  # and how many sequences
CONTEXT_LEN = 1024  # of each sequence in the timed steps
MAX_BATCH = 64
LONG_CONTEXT_LEN = 32768  # of the one sequence whose attention is timed alone
PART_LIMIT_S = 180.0  # compiling takes most of a part's time
LIMIT_S = 560.0  # for all: what machines that are lent give one command, less the start


class Part(NamedTuple):
    """What runs in one process."""

    section: str
    name: str


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if not torch.cuda.is_available():
        print("There is no CUDA device here, so there is nothing to check. See tests/gpu/check.py for what this does.")
        return 0
    if options.part is not None:
        part = Part(*options.part)
        for row in guarded(part.section, part.name, lambda: part_rows(cuda_bench(), part, options)):
            write_row(row)
        return 0
    rows: list[Row] = []
    path = options.output / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}-gpu.json"
    for row in run(parts(options.only, options.sizes), part_in_process, options.seconds):
        rows.append(row)
        print(line(row), flush=True)
        save(path, rows)  # each time: what comes later may take the machine with it
    failed = [row for row in rows if row.passed is False]
    print(f"\n{len(rows) - len(failed)} of {len(rows)} rows without a failure; {path}")
    return 1 if failed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gpu.check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="the sections to run")
    parser.add_argument("--sizes", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="the models to time")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the folder for the JSON (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=LIMIT_S, help="the time for all (default: %(default)s)")
    parser.add_argument("--part", nargs=2, metavar=("SECTION", "NAME"), help="run this part here, and write its rows")
    parser.add_argument("--ceilings", nargs=2, type=float, metavar=("BYTES_PER_S", "FLOPS_PER_S"), help="as measured")
    return parser.parse_args(arguments)


def parts(sections: Sequence[str], sizes: Sequence[str]) -> list[Part]:
    """In the order in which they tell most: are the answers right, then how fast the smallest model is."""
    names = {"kernels": list(KERNEL_CHECKS), "graphs": list(GRAPH_DTYPES), "ceilings": ["measured"]}
    chosen = [Part(section, name) for section in names for name in names[section] if section in sections]
    if "decode" in sections and "ceilings" not in sections:
        chosen.append(Part("ceilings", "measured"))
    return chosen + [Part(section, size) for size in sizes for section in ("engine", "decode") if section in sections]


def run(
    chosen: Sequence[Part], rows_of: Callable[[Part, float, Ceilings | None], Iterable[Row]], limit_s: float
) -> Iterator[Row]:
    """The parts' rows, as they come. `rows_of` runs one, in so many seconds, with the ceilings if there are any."""
    ends_at = time.monotonic() + limit_s
    ceilings: Ceilings | None = None
    for part in chosen:
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            yield Row(*part, "not run: no time was left")
        elif part.section == "decode" and ceilings is None:
            yield Row(*part, "not run: the ceilings are not known")
        else:
            for row in rows_of(part, min(PART_LIMIT_S, left_s), ceilings):
                yield row
                if part.section == "ceilings" and row.figures is not None:
                    ceilings = Ceilings(**row.figures)


def part_in_process(part: Part, limit_s: float, ceilings: Ceilings | None) -> Iterator[Row]:
    command = [sys.executable, "-m", "gpu.check", "--part", *part]
    if ceilings is not None:
        command += ["--ceilings", *map(repr, ceilings)]
    environment = dict(os.environ)
    if part.section == "kernels":
        environment["CUDA_LAUNCH_BLOCKING"] = "1"  # an illegal access is told of the kernel that made it
    return rows_of_process(command, *part, limit_s=limit_s, environment=environment)


def part_rows(bench: Bench, part: Part, options: argparse.Namespace) -> Iterable[Row]:
    """One part, in this process."""
    if part.section == "kernels":
        return check_rows(bench, KERNEL_CHECKS[part.name])
    if part.section == "graphs":
        return graph_rows(bench, *GRAPH_DTYPES[part.name])
    if part.section == "ceilings":
        return [ceilings_row(measure_ceilings(bench))]
    ceilings = Ceilings(*options.ceilings) if options.ceilings else None
    return model_rows(bench, part.name, SHAPES[part.name], ceilings, (part.section,))


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
    ceilings: Ceilings | None,  # needed for "decode"
    sections: Sequence[str],
    *,
    context_len: int = CONTEXT_LEN,
    max_batch: int = MAX_BATCH,
    long_context_len: int = LONG_CONTEXT_LEN,
    clients: Sequence[int] = (1, 16, 64),
) -> Iterable[Row]:
    model = random_decoder(config, bench, bench.dtype, max(context_len + 16, 1024))
    if "decode" in sections and ceilings is not None:
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
