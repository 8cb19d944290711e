"""Where the checks run and how they are timed. On a GPU by CUDA's events; tests rehearse the checks on the CPU."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import torch
from torch import Tensor

from gpu.roofline import Ceilings
from pagemill.backends.paged.attention.base import Attention
from pagemill.backends.paged.graphs import CudaRecorder, Recorder, Recording
from pagemill.backends.paged.ops.base import Ops


class Timer(Protocol):
    def __call__(self, work: Callable[[], object], *, calls: int, repeats: int) -> float:
        """Seconds of one call: the median over the repeats of a run of so many calls. Warms up first."""
        ...


@dataclass(frozen=True, slots=True)
class Bench:
    """A device with all that runs on it."""

    device: torch.device
    dtype: torch.dtype
    attention: Attention
    ops: Ops
    timer: Timer
    new_recorder: Callable[[], Recorder]


def cuda_bench() -> Bench:
    from pagemill.backends.paged.attention.triton_attention import TritonAttention
    from pagemill.backends.paged.ops.triton_ops import TritonOps

    device = torch.device("cuda", torch.cuda.current_device())
    return Bench(
        device,
        torch.bfloat16,
        TritonAttention(device),
        TritonOps(device),
        time_by_events,
        lambda: CudaRecorder(device),
    )


def time_by_events(work: Callable[[], object], *, calls: int, repeats: int) -> float:
    for _ in range(3):
        work()
    times: list[float] = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        for _ in range(calls):
            work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / calls / 1e3)
    return median(times)


def time_by_clock(work: Callable[[], object], *, calls: int, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(calls):
            work()
        times.append((time.perf_counter() - began) / calls)
    return median(times)


def compute_again(compute: Callable[[], Tensor]) -> Recording:
    """Stands for a graph on a device that has none."""
    output = compute()

    def replay() -> None:
        output.copy_(compute())

    return Recording(replay, output)


def measure_ceilings(bench: Bench, *, copy_bytes: int = 4 << 30, size: int = 8192) -> Ceilings:
    return Ceilings(_copy_bytes_per_s(bench, copy_bytes), _matmul_flops_per_s(bench, size))


def _copy_bytes_per_s(bench: Bench, num_bytes: int) -> float:
    source = torch.empty(num_bytes // 4, dtype=torch.int32, device=bench.device).random_()
    target = torch.empty_like(source)
    return 2 * num_bytes / bench.timer(lambda: target.copy_(source), calls=4, repeats=5)


def _matmul_flops_per_s(bench: Bench, size: int) -> float:
    """Of random numbers: a product of zeros runs faster."""
    a, b = (torch.randn(size, size, device=bench.device, dtype=bench.dtype) for _ in range(2))
    product = torch.empty_like(a)
    return 2 * size**3 / bench.timer(lambda: torch.mm(a, b, out=product), calls=4, repeats=5)
